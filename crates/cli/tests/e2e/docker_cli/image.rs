//! `docker image`, all but `build`.

use super::{Bench, Case, fails, ok, piped, prints, shows};

pub(super) const CASES: &[Case] = &[
    // import and tag
    ok("container create --name source busybox"),
    ok("image tag busybox:latest registry.example/some/box:v1"),
    fails("image tag nosuch x", 1, "No such image: nosuch:latest"),
    // ls
    shows(
        "image ls",
        &["REPOSITORY", "busybox", "registry.example/some/box"],
    ),
    prints(
        "image ls --format '{{.Repository}}:{{.Tag}}' --filter reference='*/some/*'",
        "registry.example/some/box:v1",
    ),
    shows(
        "image ls -a --no-trunc --digests --format '{{.ID}} {{.Digest}}' busybox",
        &["sha256:"],
    ),
    shows("image ls -q --all busybox:latest", &[""]),
    prints("image ls --filter dangling=true -q", ""),
    shows("image ls --tree", &["busybox:latest"]),
    // inspect and history
    prints(
        "image inspect -f '{{.Os}}/{{.Architecture}} {{json .Config.Cmd}}' busybox",
        "linux/{arch} [\"sh\"]",
    ),
    prints(
        "image inspect --platform linux/{arch} --format '{{index .RepoTags 0}}' busybox",
        "busybox:latest",
    ),
    fails("image inspect nosuch", 1, "No such image: nosuch"),
    shows("image history busybox", &["IMAGE", "CREATED BY"]),
    shows(
        "image history --human=false --no-trunc --format '{{.ID}} {{.Size}}' busybox",
        &["sha256:"],
    ),
    shows(
        "image history --human --quiet --platform linux/{arch} busybox",
        &[""],
    ),
    // rm and prune
    shows(
        "image rm registry.example/some/box:v1",
        &["Untagged: registry.example/some/box:v1"],
    ),
    fails("image rm nosuch", 1, "No such image: nosuch:latest"),
    ok("image rm -f nosuch"),
    ok("image tag busybox spare"),
    shows(
        "image rm --force --no-prune spare",
        &["Untagged: spare:latest"],
    ),
    ok("image tag busybox spare"),
    shows(
        "image rm --platform linux/{arch} spare",
        &["Untagged: spare:latest"],
    ),
    ok("image tag busybox spare"),
    shows("image prune -f", &["Total reclaimed space: 0B"]),
    shows(
        "image prune --force --filter until=24h --filter label=a",
        &["Total reclaimed space: 0B"],
    ),
    piped(
        "image prune",
        "n\n",
        "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N]",
    ),
    shows("image prune -a -f", &["Total reclaimed space"]),
    prints("image ls -q busybox --format {{.Tag}}", "latest"),
    // save and load
    ok("image tag busybox saved:v1"),
    ok("image save -o {home}/saved.tar saved:v1 busybox"),
    ok("image save --platform linux/{arch} --output {home}/one.tar saved:v1"),
    fails(
        "image save -o {home}/x.tar nosuch",
        1,
        "No such image: nosuch",
    ),
    ok("image rm saved:v1"),
    shows(
        "image load -i {home}/saved.tar",
        &["Loaded image: saved:v1", "Loaded image: busybox:latest"],
    ),
    ok("image rm saved:v1"),
    shows(
        "image load --quiet --platform linux/{arch} --input {home}/one.tar",
        &["Loaded image: saved:v1"],
    ),
    prints("container run --rm saved:v1 echo ran", "ran"),
    fails("image load -i {home}/env", 1, ""),
    // push and pull
    ok("image tag busybox {registry}/some/box:v1"),
    ok("image tag busybox {registry}/some/box:v2"),
    shows(
        "image push {registry}/some/box:v1",
        &["v1: digest: sha256:"],
    ),
    shows(
        "image push -q --disable-content-trust --platform linux/{arch} {registry}/some/box:v1",
        &["{registry}/some/box:v1"],
    ),
    shows(
        "image push --all-tags {registry}/some/box",
        &["v1: digest: sha256:", "v2: digest: sha256:"],
    ),
    fails(
        "image push {registry}/some/nosuch",
        1,
        "An image does not exist locally with the tag: {registry}/some/nosuch",
    ),
    ok("image rm {registry}/some/box:v1 {registry}/some/box:v2"),
    shows(
        "image pull --platform linux/{arch} --disable-content-trust {registry}/some/box:v1",
        &["Status: Downloaded newer image for {registry}/some/box:v1"],
    ),
    prints(
        "image pull --quiet {registry}/some/box:v1",
        "{registry}/some/box:v1",
    ),
    shows(
        "image pull -a {registry}/some/box",
        &["v2: Pulling from some/box"],
    ),
    prints("image ls --format {{.Tag}} {registry}/some/box", "v1\nv2"),
    fails("image pull {registry}/some/nosuch:v1", 1, ""),
];

#[test]
fn every_command_of_image() {
    Bench::new().with_registry().sweep(CASES);
}
