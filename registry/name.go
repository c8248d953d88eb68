package registry

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
)

// defaultTag is what docker takes for an image named without a tag.
const defaultTag = "latest"

// Repository is a registry's host and a path on it, normalised as docker and
// BuildKit do: what is typed as app is docker.io/library/app. It is
// comparable. The zero Repository is not valid; ParseRepository makes one.
type Repository struct{ host, path string }

// Host is the registry's name with its port if one was written, such as
// ghcr.io or localhost:5000. Docker Hub is docker.io.
func (r Repository) Host() string { return r.host }

// Path is the name of the repository on its registry, such as acme/app.
func (r Repository) Path() string { return r.path }

// String is the normalised name, such as docker.io/library/app.
func (r Repository) String() string { return r.host + "/" + r.path }

// Tagged names the tag of r. The tag must satisfy ValidTag.
func (r Repository) Tagged(tag string) Image { return Image{Repository: r, Tag: tag} }

// Digested is the text that refers to content of r by digest, as BuildKit and
// docker take it.
func (r Repository) Digested(d digest.Digest) string { return r.String() + "@" + d.String() }

// Image is a tag in a repository: the [REGISTRY/]NAME[:TAG] of the command.
// It is comparable.
type Image struct {
	Repository Repository
	Tag        string
}

// String is the normalised reference, such as docker.io/library/app:latest.
// ParseImage of it gives the same Image.
func (i Image) String() string { return i.Repository.String() + ":" + i.Tag }

// NameError says why a text names no image or no repository.
type NameError struct {
	Text    string // as typed
	Problem string // what is wrong, and where possible what to write instead
}

func (e *NameError) Error() string { return fmt.Sprintf("image name %q: %s", e.Text, e.Problem) }

// DigestError is the refusal of an image name with a digest: a build makes
// new content, so its result cannot be pushed to a digest known beforehand.
type DigestError struct {
	Text string // as typed
	// Write is the name to use instead, with the placeholder TAG where the
	// typed one had no tag.
	Write string
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("image name %q: cannot push to a digest, write %s", e.Text, e.Write)
}

// ParseImage reads an image name as docker does, except that a digest is
// refused (*DigestError) and that an upper case first component is never
// taken for a host. Every other refusal is a *NameError. A missing tag is
// latest; host:5000/name has no tag.
func ParseImage(text string) (Image, error) {
	if before, _, found := strings.Cut(text, "@"); found {
		return Image{}, &DigestError{Text: text, Write: withTagPlaceholder(before)}
	}
	named, repository, err := parse(text)
	if err != nil {
		return Image{}, err
	}
	tag := defaultTag
	if tagged, ok := named.(reference.Tagged); ok {
		tag = tagged.Tag()
	}
	return Image{Repository: repository, Tag: tag}, nil
}

// ParseRepository reads the name of a repository: an image name with neither
// tag nor digest. Every refusal is a *NameError.
func ParseRepository(text string) (Repository, error) {
	if before, _, found := strings.Cut(text, "@"); found {
		return Repository{}, &NameError{text, fmt.Sprintf("a repository is named without a digest, write %s", before)}
	}
	named, repository, err := parse(text)
	if err != nil {
		return Repository{}, err
	}
	if tagged, ok := named.(reference.Tagged); ok {
		bare := strings.TrimSuffix(text, ":"+tagged.Tag())
		return Repository{}, &NameError{text, fmt.Sprintf("a repository is named without a tag, write %s", bare)}
	}
	return repository, nil
}

// parse holds the text against both grammars it must satisfy: docker's, which
// BuildKit uses too, and that of the registry client.
func parse(text string) (reference.Named, Repository, error) {
	if problem := foreignSyntax(text); problem != "" {
		return nil, Repository{}, &NameError{text, problem}
	}
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return nil, Repository{}, &NameError{text, grammarProblem(text, err)}
	}
	repository := Repository{host: reference.Domain(named), path: reference.Path(named)}
	if _, err := name.NewRepository(repository.String()); err != nil {
		return nil, Repository{}, &NameError{text, err.Error()}
	}
	return named, repository, nil
}

// foreignSyntax finds what docker's parser would refuse without saying why,
// or would take for something nobody means.
func foreignSyntax(text string) string {
	if text == "" {
		return "is empty"
	}
	if scheme, rest, found := strings.Cut(text, "://"); found {
		return fmt.Sprintf("is not a URL, leave out %s:// and write %s", scheme, rest)
	}
	for _, r := range text {
		if r > unicode.MaxASCII || r <= ' ' || r == 0x7f {
			return fmt.Sprintf("the character %q is not allowed", r)
		}
	}
	first, _, found := strings.Cut(text, "/")
	if found && !strings.ContainsAny(first, ".:") && strings.ToLower(first) != first {
		// docker would take the Acme of Acme/app for a host.
		return mustBeLowerCase(text)
	}
	return ""
}

// grammarProblem puts into words why docker's grammar refused the text.
func grammarProblem(text string, err error) string {
	host, path, tag, hasTag := split(text)
	switch {
	case hasTag && tag == "":
		return fmt.Sprintf("nothing follows the colon, write %s", strings.TrimSuffix(text, ":"))
	case hasTag && len(tag) > MaxTagLength:
		return fmt.Sprintf("the tag is %d characters long, at most %d are allowed", len(tag), MaxTagLength)
	case hasTag && !ValidTag(tag):
		return fmt.Sprintf("the tag %q is not valid: letters, digits and _ . - are allowed, not . or - in front", tag)
	case host != "" && !validName(host+"/x"):
		return fmt.Sprintf("%q is not a registry's host or host:port", host)
	case strings.ToLower(path) != path:
		return mustBeLowerCase(text)
	case len(path) > reference.RepositoryNameTotalLengthMax:
		return fmt.Sprintf("the repository is %d characters long, at most %d are allowed", len(path), reference.RepositoryNameTotalLengthMax)
	}
	for component := range strings.SplitSeq(path, "/") {
		if component == "" {
			return "a component of the path is empty"
		}
		if !validName("localhost/" + component) {
			return fmt.Sprintf("the component %q is not valid: lower case letters and digits, separated by one . or _ or by dashes, are allowed", component)
		}
	}
	return err.Error()
}

// split cuts the text where docker does.
func split(text string) (host, path, tag string, hasTag bool) {
	path = text
	if first, rest, found := strings.Cut(text, "/"); found && (first == "localhost" || strings.ContainsAny(first, ".:")) {
		host, path = first, rest
	}
	path, tag, hasTag = strings.Cut(path, ":")
	return host, path, tag, hasTag
}

func validName(name string) bool {
	_, err := reference.WithName(name)
	return err == nil
}

func mustBeLowerCase(text string) string {
	host, path, tag, hasTag := split(text)
	write := strings.ToLower(path)
	if host != "" {
		write = host + "/" + write
	}
	if hasTag {
		write += ":" + tag
	}
	return "a repository is in lower case, write " + write
}

func withTagPlaceholder(text string) string {
	if text == "" {
		return "NAME:TAG"
	}
	if _, _, _, hasTag := split(text); hasTag {
		return text
	}
	return text + ":TAG"
}
