//! The flags of a build, which are those of `docker buildx build`.

use crate::args::Flag;

/// All of them.
pub(crate) static FLAGS: &[Flag] = &[
    Flag::many(
        "add-host",
        "strings",
        "Add a custom host-to-IP mapping (format: \"host:ip\")",
    ),
    Flag::many(
        "allow",
        "strings",
        "Allow extra privileged entitlement (e.g., \"network.host\", \"security.insecure\")",
    ),
    Flag::many("annotation", "stringArray", "Add annotation to the image"),
    Flag::many(
        "attest",
        "stringArray",
        "Attestation parameters (format: \"type=sbom,generator=image\")",
    ),
    Flag::many("build-arg", "stringArray", "Set build-time variables"),
    Flag::many(
        "build-context",
        "stringArray",
        "Additional build contexts (e.g., name=path)",
    ),
    Flag::many(
        "cache-from",
        "stringArray",
        "External cache sources (e.g., \"user/app:cache\", \"type=local,src=path/to/dir\")",
    ),
    Flag::many(
        "cache-to",
        "stringArray",
        "Cache export destinations (e.g., \"user/app:cache\", \"type=local,dest=path/to/dir\")",
    ),
    Flag::one(
        "call",
        "string",
        "Set method for evaluating build (\"check\", \"outline\", \"targets\")",
    )
    .default("build"),
    Flag::one(
        "cgroup-parent",
        "string",
        "Set the parent cgroup for the \"RUN\" instructions during build",
    ),
    Flag::switch("check", "Shorthand for \"--call=check\""),
    Flag::one(
        "file",
        "string",
        "Name of the Dockerfile (default: \"PATH/Dockerfile\")",
    )
    .short('f'),
    Flag::one("iidfile", "string", "Write the image ID to a file"),
    Flag::many("label", "stringArray", "Set metadata for an image"),
    Flag::switch("load", "Shorthand for \"--output=type=docker\""),
    Flag::one(
        "metadata-file",
        "string",
        "Write build result metadata to a file",
    ),
    Flag::one(
        "network",
        "string",
        "Set the networking mode for the \"RUN\" instructions during build",
    )
    .default("default"),
    Flag::switch("no-cache", "Do not use cache when building the image"),
    Flag::many(
        "no-cache-filter",
        "stringArray",
        "Do not cache specified stages",
    ),
    Flag::many(
        "output",
        "stringArray",
        "Output destination (format: \"type=local,dest=path\")",
    )
    .short('o'),
    Flag::many(
        "platform",
        "stringArray",
        "Set target platform for build",
    ),
    Flag::one(
        "progress",
        "string",
        "Set type of progress output (\"auto\", \"none\", \"plain\", \"quiet\", \"rawjson\", \"tty\")",
    )
    .default("auto"),
    Flag::maybe(
        "provenance",
        "string",
        "Shorthand for \"--attest=type=provenance\"",
    ),
    Flag::switch("pull", "Always attempt to pull all referenced images"),
    Flag::switch("push", "Shorthand for \"--output=type=registry\""),
    Flag::switch(
        "quiet",
        "Suppress the build output and print image ID on success",
    )
    .short('q'),
    Flag::maybe("sbom", "string", "Shorthand for \"--attest=type=sbom\""),
    Flag::many(
        "secret",
        "stringArray",
        "Secret to expose to the build (format: \"id=mysecret[,src=/local/secret]\")",
    ),
    Flag::one("shm-size", "bytes", "Shared memory size for build containers"),
    Flag::many(
        "ssh",
        "stringArray",
        "SSH agent socket or keys to expose to the build (format: \"default|<id>[=<socket>]\")",
    ),
    Flag::many(
        "tag",
        "stringArray",
        "Name and optionally a tag (format: \"name:tag\")",
    )
    .short('t'),
    Flag::one("target", "string", "Set the target build stage to build"),
    Flag::many("ulimit", "ulimit", "Ulimit options"),
    Flag::switch("watch", "Build again whenever the context changes"),
    // taken and without effect, as in Docker's client
    Flag::one("builder", "string", "Override the configured builder instance").hidden(),
    Flag::switch("rm", "Remove intermediate containers after a successful build").hidden(),
    Flag::switch("force-rm", "Always remove intermediate containers").hidden(),
    Flag::switch_on("disable-content-trust", "Skip image verification").hidden(),
    Flag::switch("compress", "Compress the build context using gzip").hidden(),
];
