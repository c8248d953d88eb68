package engine

import "strings"

// Check tells, before a build starts, whether the engine can do what the
// options ask: an *UnsupportedError if not. Nothing is silently left out.
func (e *Engine) Check(o Options) error {
	if !e.BuildKit {
		return checkClassicOptions(o, e.Name)
	}
	if !e.RegistryCache && e.docker != nil {
		if err := checkInlineOptions(o, e.Name); err != nil {
			return err
		}
	}
	if _, err := frontendAttributes(o, e.docker != nil); err != nil {
		return err
	}
	if len(o.CacheTo) > 0 && !e.RegistryCache {
		return &UnsupportedError{Option: "--cache-to type=" + o.CacheTo[0].Type, Engine: e.Name, Remedy: "leave it out: the tool's own cache is kept inside the images"}
	}
	for _, spec := range append(append([]CacheSpec{}, o.CacheFrom...), o.CacheTo...) {
		if strings.TrimSpace(spec.Type) == "" {
			return &UnsupportedError{Option: "--cache-from or --cache-to without a type", Engine: e.Name, Remedy: "write type=registry,ref=..."}
		}
	}
	return nil
}
