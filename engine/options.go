package engine

import "context"

// Options say what is built and how, as the options of docker build and
// docker buildx build do: parsed and validated, but not yet bound to an
// engine. Fields are in the order of docker build --help where it has them.
type Options struct {
	// Context is the path of the local build context directory.
	Context string
	// Dockerfile is the path of the Dockerfile, "-" for standard input; its
	// text is read once by the caller and travels in Request.
	Dockerfile string

	AddHosts      []Host         // --add-host
	Allow         []string       // --allow: entitlements such as network.host
	Annotations   []Annotation   // --annotation
	Attestations  []Attestation  // --attest, --provenance, --sbom; one a type, none of a disabled one
	BuildArgs     []BuildArg     // --build-arg
	BuildContexts []KeyValue     // --build-context NAME=VALUE
	CgroupParent  string         // --cgroup-parent
	Labels        []KeyValue     // --label
	Network       string         // --network
	NoCache       bool           // --no-cache
	NoCacheFilter []string       // --no-cache-filter: stage names
	Outputs       []Output       // --output, --load
	Platforms     []string       // --platform, normalised; empty is the engine's own
	Pull          bool           // --pull
	Secrets       []Secret       // --secret
	ShmSize       int64          // --shm-size, bytes
	SSH           []SSHAgent     // --ssh
	Target        string         // --target
	Ulimits       []string       // --ulimit, in the form name=soft:hard
	CacheFrom     []CacheSpec    // --cache-from, beside the tool's own
	CacheTo       []CacheSpec    // --cache-to, beside the tool's own
	Classic       ClassicOptions // what only the classic builder knows

	// Values are secrets beside those of --secret, for mounts that the tool
	// itself puts into the Dockerfile. They are in memory and in the session
	// alone: not in the environment, in a file or in a definition.
	Values []SecretValue
	// Ask, unless nil, is asked for those of the tool's secrets that Values do
	// not hold, each time that a step which mounts one begins to run. No value
	// is a secret that is absent.
	Ask func(ctx context.Context, id string) (value []byte, ok bool)
}

// ClassicOptions are the options of docker build that only the classic
// builder knows; BuildKit engines refuse those that are set.
type ClassicOptions struct {
	Compress    bool
	CPUPeriod   int64
	CPUQuota    int64
	CPUSetCPUs  string
	CPUSetMems  string
	CPUShares   int64
	ForceRemove bool
	Isolation   string
	// KeepContainers is --rm=false.
	KeepContainers bool
	Memory         int64 // bytes
	MemorySwap     int64 // bytes, -1 for unlimited
	SecurityOpts   []string
	Squash         bool
}

// Set names the options that differ from their zero value, as flags, and that
// a BuildKit engine cannot obey. It need not obey --compress, --force-rm and
// --rm: it sends no archive and leaves no containers, so that scripts which
// give them get what they want, as with buildx.
func (o ClassicOptions) Set() []string {
	var names []string
	add := func(name string, set bool) {
		if set {
			names = append(names, name)
		}
	}
	add("--cpu-period", o.CPUPeriod != 0)
	add("--cpu-quota", o.CPUQuota != 0)
	add("--cpuset-cpus", o.CPUSetCPUs != "")
	add("--cpuset-mems", o.CPUSetMems != "")
	add("--cpu-shares", o.CPUShares != 0)
	add("--isolation", o.Isolation != "")
	add("--memory", o.Memory != 0)
	add("--memory-swap", o.MemorySwap != 0)
	add("--security-opt", len(o.SecurityOpts) > 0)
	add("--squash", o.Squash)
	return names
}

// Host is one --add-host: a name and the address it resolves to, or the word
// host-gateway.
type Host struct{ Name, Address string }

// KeyValue is one NAME=VALUE.
type KeyValue struct{ Key, Value string }

// Annotation is one --annotation of a part of the image: manifest, index,
// manifest-descriptor or index-descriptor; of one platform only, or of all
// where Platform is empty.
type Annotation struct{ Part, Platform, Key, Value string }

// BuildArg is one --build-arg, its value already taken from the environment
// when none was written. A variable that is not set there either is no
// argument at all, as with docker build.
type BuildArg struct{ Name, Value string }

// Attestation is one --attest, with the type (provenance, sbom) and the
// remaining attributes as BuildKit's frontend takes them.
type Attestation struct{ Type, Attributes string }

// Output is one --output: an exporter and its attributes. Destination is the
// local path of dest=, empty for none, "-" for standard output.
type Output struct {
	Type        string
	Destination string
	Attributes  map[string]string
}

// Secret is one --secret: the id a RUN step mounts and where the value comes
// from, exactly one of File and Env.
type Secret struct{ ID, File, Env string }

// SecretValue is a secret by value; its id begins with stages.ReservedPrefix.
type SecretValue struct {
	ID    string
	Value []byte
}

// SSHAgent is one --ssh: the id a RUN step mounts and the sockets or keys
// behind it; none means SSH_AUTH_SOCK.
type SSHAgent struct {
	ID    string
	Paths []string
}

// CacheSpec is one --cache-from or --cache-to.
type CacheSpec struct {
	Type       string
	Attributes map[string]string
}
