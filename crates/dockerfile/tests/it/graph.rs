//! Graphs: the operations that instructions become.
//!
//! The digests were taken from Docker 28.5's `BuildKit` for the same file: each operation is the
//! same to the byte.

use std::collections::BTreeSet;

use dockerfile::convert::{ImageRequest, Request, ResolveError, ResolveMode, ResolvedImage};
use dockerfile::{Converted, Options, Resolve, convert, pb};
use prost::Message as _;

use crate::fixture::{self, Images, converted, copies, exec, find, names, options, source};

const FILE: &str = include_str!("golden.Dockerfile");

const PLAIN: &[(&str, &str)] = &[
    (
        "960301f1be3e62474def6d1d0d7798b1329832b8ad98ea24a64e06218550ca43",
        "[base  2/16] RUN echo \"1\" > /a",
    ),
    (
        "0ecef65dd372d54811a5c0a07b1675e25e96ef2231415272f72d7096a85ba26c",
        "[base  3/16] RUN [\"/bin/sh\", \"-c\", \"true\"]",
    ),
    (
        "11453a3692bfb088677e999a228045fc183b27cd50ad67a62b9250caa4c9acbc",
        "[base  4/16] WORKDIR /w/x",
    ),
    (
        "d9e51a3131e13410cea984c7fc5c54682f8b71fd15d4c6f63c84883af43d4337",
        "[base  5/16] COPY --chown=12:root --chmod=0640 <<one <<two dst/",
    ),
    (
        "90f7c63ca2dab4122a68bcef9e8c6414df8ebf606ff9eb21cc7afe9d11fe8cc6",
        "[base  6/16] RUN --mount=type=cache,target=/c,id=cid,sharing=locked --mount=type=tmpfs,target=/t,size=1m true",
    ),
    (
        "97cafdb31555fdd18dd491a23c2ea2577cddff81ec02cb3e69308383080f21a5",
        "[base  7/16] RUN --mount=type=cache,target=/c,uid=5,mode=0700 true",
    ),
    (
        "7ecabe424c523af75dc2964eba42a39f77d6523c320a6a2366c8038382a41018",
        "[base  8/16] RUN --network=none --mount=type=bind,from=base2,source=/bin,target=/mnt,rw true",
    ),
    (
        "dfabb417c1ded7e64ed1c3055bbc571a8c9351e307ed7fe50728c592b691625e",
        "[base  9/16] RUN --mount=type=secret,id=tok --mount=type=secret,id=env,env=TOK --mount=type=ssh true",
    ),
    (
        "fa258719f09e1ba5627b305a6720b8466bacd16a9c71bf67c9e70bbd156979df",
        "[base 10/16] RUN <<E (echo one)",
    ),
    (
        "34f9516b0e3e41c8d3b0a43f61e9e4954cd52d9b938b6d28af387219e38b695c",
        "[base 11/16] RUN <<S (#!/bin/sh...)",
    ),
    (
        "01f7accc9a54d8cf4fd72e8f26aa99f536d7b237d7639a17529f21e35c80493f",
        "[base 12/16] RUN cat <<X > /x",
    ),
    (
        "f33317af372588a9461d7d0c257529babecde6eb46b47ca2cdc61e3b2112b2a3",
        "[base 13/16] RUN id",
    ),
    (
        "2623430b277bfd0400c8fa54659d412a014ac5be0f704f083bcbedf18beb4782",
        "[base 14/16] COPY --from=base2 /bin/busybox /bin/ls* /bin2/",
    ),
    (
        "0cf558111f62e643de03bc66b78d9a8d7099205cb9787116f945124befbefbdd",
        "[base 15/16] COPY --from=base2 --chmod=u+x --exclude=*.o /bin/busybox /bin3",
    ),
    (
        "02d961b1f4005d72b548fa3454470cc43d75b683646d31dda0a121ae72ddf542",
        "[base 16/16] ADD --unpack=false https://example.invalid/f/x.tar.gz?y=1 /dl/",
    ),
    (
        "e5fb5ce634e29f486c8591589d49b2396f7eba532af276bd5689e9be1edaf41c",
        "[base 16/16] ADD --unpack=false https://example.invalid/f/x.tar.gz?y=1 /dl/",
    ),
    (
        "b3fcaa3c35d1fc708ce03cb898cce0158457711bf98715f977fd5b214610f694",
        "[base2 1/1] FROM docker.io/bench/busybox:latest",
    ),
    (
        "8cdf11a19b4cf7fcc8b9423a7c101b092c5989f99f523063acafe9293f6ef04a",
        "[internal] preparing inline document",
    ),
    (
        "a89771d5456fd0a35dbb00f89e9c584223d34e0700a3c1b019db82734261a786",
        "[internal] preparing inline document",
    ),
    (
        "dc4f1c9dd9e0e7de7f1bdfa264e4b10b57fff311bafa53c9d498c095b4ade703",
        "[internal] preparing inline document",
    ),
    (
        "79ec49883badeba62acf0bf44a2bc43a59f899120e9d5f2111a3ce07a9bc0a87",
        "[internal] setting cache mount permissions",
    ),
    (
        "4f5c9f1dfd701d54aab3e9a8773ff04008206b55d1853e4e56af4a0f60dbbd77",
        "[stage-2 1/1] COPY --from=base /a /",
    ),
];

const WITH_OPTIONS: &[(&str, &str)] = &[
    (
        "e8f27766eaf4a3da83b01951a0e30ddfb712b7dd484114ff6208656e75af29f9",
        "[base  2/16] RUN echo \"1\" > /a",
    ),
    (
        "63eca9b69022ccf9c5459b0c719035022ea00c8f6b36da7c1b3b01954dab081d",
        "[base  3/16] RUN [\"/bin/sh\", \"-c\", \"true\"]",
    ),
    (
        "3212fc56d15b4b1cf05622bbbfa5cdf3048f2bcc313448507b13d13b958cb67f",
        "[base  4/16] WORKDIR /w/x",
    ),
    (
        "51e441b87491da390cb47685aa51b3a951d039116531dd2d3b48fe3f72b6e3cf",
        "[base  5/16] COPY --chown=12:root --chmod=0640 <<one <<two dst/",
    ),
    (
        "eaf2eef1e20a2c7a9a11c0b4fc3884f8edb82cb5e220cab6981af1f0d772a370",
        "[base  6/16] RUN --mount=type=cache,target=/c,id=cid,sharing=locked --mount=type=tmpfs,target=/t,size=1m true",
    ),
    (
        "62ab1894e12f56d20d5593d359a76255c1cb55441862e3eb4f27d2c76e3023fb",
        "[base  7/16] RUN --mount=type=cache,target=/c,uid=5,mode=0700 true",
    ),
    (
        "fbb603f7d1601a5d2f00de728ba8b475d4c5c992fe267e4477ff85be31bc8883",
        "[base  8/16] RUN --network=none --mount=type=bind,from=base2,source=/bin,target=/mnt,rw true",
    ),
    (
        "7ce0906d93bdf252ec8570014bb6df75830304ceea544da804d4c16074b08414",
        "[base  9/16] RUN --mount=type=secret,id=tok --mount=type=secret,id=env,env=TOK --mount=type=ssh true",
    ),
    (
        "3c1feaa0eb852a34da56934630a51bbb44a3a802a43b35d8e5b2b1134fcc4023",
        "[base 10/16] RUN <<E (echo one)",
    ),
    (
        "094c1e816e00880da25a38f62539a099f659d2c1db42f12e15ef63f5db706b37",
        "[base 11/16] RUN <<S (#!/bin/sh...)",
    ),
    (
        "b563f5af99a94d6f0522982542cf022977e82608950537d1080ab7c653ec87a2",
        "[base 12/16] RUN cat <<X > /x",
    ),
    (
        "69bdc245bd9632543977b0b9153a1706e6b52fc1ac6c304c41a206a456b5f1ef",
        "[base 13/16] RUN id",
    ),
    (
        "6119d3cdc2e5c26766538f3818245c646e01b905f9144e91318fa66d272d4a5e",
        "[base 14/16] COPY --from=base2 /bin/busybox /bin/ls* /bin2/",
    ),
    (
        "e172f8c3684bb1d87d04eacb6a1a694d61ad413233919719d85cc22029c1fe9d",
        "[base 15/16] COPY --from=base2 --chmod=u+x --exclude=*.o /bin/busybox /bin3",
    ),
    (
        "dd50a5fe3571b37cdf5b08106e73b20ee5f34d05028a881db755f36ae954ca80",
        "[base 16/16] ADD --unpack=false https://example.invalid/f/x.tar.gz?y=1 /dl/",
    ),
    (
        "e5fb5ce634e29f486c8591589d49b2396f7eba532af276bd5689e9be1edaf41c",
        "[base 16/16] ADD --unpack=false https://example.invalid/f/x.tar.gz?y=1 /dl/",
    ),
    (
        "b3fcaa3c35d1fc708ce03cb898cce0158457711bf98715f977fd5b214610f694",
        "[base2 1/1] FROM docker.io/bench/busybox:latest",
    ),
    (
        "8cdf11a19b4cf7fcc8b9423a7c101b092c5989f99f523063acafe9293f6ef04a",
        "[internal] preparing inline document",
    ),
    (
        "a89771d5456fd0a35dbb00f89e9c584223d34e0700a3c1b019db82734261a786",
        "[internal] preparing inline document",
    ),
    (
        "dc4f1c9dd9e0e7de7f1bdfa264e4b10b57fff311bafa53c9d498c095b4ade703",
        "[internal] preparing inline document",
    ),
    (
        "79ec49883badeba62acf0bf44a2bc43a59f899120e9d5f2111a3ce07a9bc0a87",
        "[internal] setting cache mount permissions",
    ),
    (
        "344f30db6c380b10168f3c008ae52ea18af1cec62e24c493ece25692a301a7d8",
        "[stage-2 1/1] COPY --from=base /a /",
    ),
];

/// A caller whose one image has neither a digest nor a configuration worth the name.
struct Local;

impl Resolve for Local {
    fn image(&mut self, _: &ImageRequest) -> Result<ResolvedImage, ResolveError> {
        let config = r#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:aa"]},"history":[{"comment":"Imported from -"}]}"#;
        Ok(ResolvedImage {
            config: config.into(),
            ..ResolvedImage::default()
        })
    }
}

fn check(options: &Options, want: &[(&str, &str)]) {
    let built = convert(FILE.as_bytes(), options, &mut Local)
        .result
        .unwrap();
    let found: BTreeSet<String> = fixture::operations(&built.definition)
        .iter()
        .map(|o| format!("{} {}", o.digest.trim_start_matches("sha256:"), o.name))
        .collect();
    let want: BTreeSet<String> = want.iter().map(|(d, n)| format!("{d} {n}")).collect();
    let missing: Vec<_> = want.difference(&found).collect();
    let extra: Vec<_> = found.difference(&want).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing {missing:#?}\nextra {extra:#?}"
    );
}

/// Over 180 small files: their operations' digests and names, or what is said of them.
///
/// Not among them is what depends on a session, `--link`, which Docker's engine makes no layer of
/// its own without containerd's store, and a script whose first line begins with tabs that are to
/// go away, which newer versions than Docker 28.5 see as the script it is.
#[test]
fn small_files_are_buildkits_to_the_byte() {
    let cases: serde_json::Value = serde_json::from_str(include_str!("docker.json")).unwrap();
    let local = Options {
        resolve_mode: ResolveMode::Local,
        ..options()
    };
    let mut wrong = Vec::new();
    for case in cases.as_array().unwrap() {
        let text = case["file"].as_str().unwrap();
        let want = case["operations"].as_object().unwrap();
        let (found, error) = match convert(text.as_bytes(), &local, &mut Local).result {
            Ok(built) => (fixture::operations(&built.definition), String::new()),
            Err(error) => (Vec::new(), error.to_string()),
        };
        let found: serde_json::Map<String, serde_json::Value> = found
            .into_iter()
            .map(|o| (o.digest, o.name.into()))
            .collect();
        if found.len() != want.len() || found.iter().any(|(d, n)| want.get(d) != Some(n)) {
            wrong.push(format!("{text}\n{found:#?}\n{want:#?}"));
        }
        if error != case["error"].as_str().unwrap() {
            wrong.push(format!("{text}\n{error}\n{}", case["error"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn operations_are_buildkits_to_the_byte() {
    // clients of Docker's engine ask for its own images first
    let local = Options {
        resolve_mode: ResolveMode::Local,
        ..options()
    };
    check(&local, PLAIN);
}

#[test]
fn options_of_the_build_are_buildkits_to_the_byte() {
    let attrs = [
        ("build-arg:HTTP_PROXY", "http://p"),
        ("add-hosts", "h=1.2.3.4"),
        ("shm-size", "67108864"),
        ("ulimit", "nofile=10:20"),
        ("cgroup-parent", "foo"),
        ("force-network-mode", "host"),
        ("image-resolve-mode", "local"),
    ];
    let attrs = attrs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let request = Request::from_attrs(&attrs).unwrap();
    let options = Options {
        build_platforms: options().build_platforms,
        ..request.options
    };
    check(&options, WITH_OPTIONS);
}

fn local(more: &str) -> Converted {
    converted(&format!("FROM busybox\n{more}"), &options())
}

#[test]
fn a_context_is_asked_for_what_is_needed() {
    let attrs = |text: &str, options: &Options| {
        let built = converted(text, options);
        let source = source(&built.definition, "load build context");
        assert_eq!(source.identifier, "local://context");
        source.attrs
    };
    let found = attrs(
        "FROM scratch\nCOPY a ./b/../c* /\nADD d http://h/e /\nFROM scratch\nCOPY --from=0 x /\n",
        &options(),
    );
    assert_eq!(found["local.followpaths"], r#"["a","c*","d"]"#);
    assert_eq!(found["local.sharedkeyhint"], "context");
    assert!(
        !attrs("FROM scratch\nCOPY a /\nCOPY . /\n", &options()).contains_key("local.followpaths")
    );
    let context = dockerfile::convert::Context::Local {
        name: "context".to_owned(),
        session: "s1".to_owned(),
        excludes: vec!["*.md".to_owned(), "!a<b".to_owned()],
        hint: "context".to_owned(),
    };
    let found = attrs(
        "FROM scratch\nCOPY . /\n",
        &Options {
            context,
            ..options()
        },
    );
    assert_eq!(found["local.session"], "s1");
    assert_eq!(found["local.excludepatterns"], r#"["*.md","!a\u003cb"]"#);
}

#[test]
fn links_are_layers_of_their_own() {
    let built = local("RUN a\nCOPY --link --chown=u:g a /x/\n");
    let copy = copies(&built.definition, "] COPY --link").remove(0);
    let Some(pb::user_opt::User::ByName(user)) = copy.owner.unwrap().user.unwrap().user else {
        panic!("no name")
    };
    assert_eq!((user.name.as_str(), user.input), ("u", -1));
    let merge = find(&built.definition, "LINK");
    assert_eq!(merge.op.inputs.len(), 2);
    assert!(merge.op.platform.is_none());
    let group = |name| {
        built.definition.metadata[&find(&built.definition, name).digest]
            .progress_group
            .clone()
            .unwrap()
    };
    assert_eq!(group("LINK").id, group("] COPY --link").id);
    assert!(group("] COPY --link").weak && !group("LINK").weak);
    // upon nothing there is nothing to merge with, and a mode needs what is below
    let built = converted("FROM scratch\nCOPY --link a /x\n", &options());
    assert!(!names(&built.definition).iter().any(|n| n.contains("LINK")));
    let built = local("COPY --link --chmod=644 a /x\n");
    assert!(!names(&built.definition).iter().any(|n| n.contains("LINK")));
}

#[test]
fn parents_keep_folders() {
    let built = local("COPY --parents a/b.txt x/./y/*.c ../z /d/\n");
    let found: Vec<_> = copies(&built.definition, "COPY")
        .into_iter()
        .map(|c| {
            (
                c.src,
                c.include_patterns.join(","),
                c.required_paths.join(","),
            )
        })
        .collect();
    let of = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    assert_eq!(
        found,
        [
            of("/", "a/b.txt", "/a/b.txt"),
            of("/x", "y/*.c", ""),
            of("/", "z", "/z")
        ]
    );
}

#[test]
fn destinations_keep_their_slash() {
    let dest = |text: &str| {
        let built = local(&format!("WORKDIR /w\nCOPY a {text}\n"));
        copies(&built.definition, "COPY").remove(0).dest
    };
    for (text, want) in [
        ("x", "/w/x"),
        ("x/", "/w/x/"),
        (".", "/w/"),
        ("./", "/w/"),
        ("/", "/"),
        ("/x/.", "/x/."),
        ("../..", "/"),
        ("/a/../b", "/b"),
        ("\"\"", "/w/"),
    ] {
        assert_eq!(dest(text), want, "{text}");
    }
}

#[test]
fn repositories_and_downloads_are_sources() {
    let sum = "a".repeat(64);
    let built = local(&format!(
        "ADD --keep-git-dir=true https://h/o/r.git#v1:sub /r\nADD --checksum=sha256:{sum} http://h/f.tar /f\nADD --unpack=true http://h/g.tar /g\n"
    ));
    let git = source(&built.definition, "r.git");
    assert_eq!(git.identifier, "git://h/o/r.git#v1:sub");
    assert_eq!(git.attrs["git.keepgitdir"], "true");
    let names: Vec<_> = fixture::operations(&built.definition)
        .into_iter()
        .filter_map(|o| match o.op.op {
            Some(pb::op::Op::Source(s)) if s.identifier.starts_with("http") => Some(s.attrs),
            _ => None,
        })
        .collect();
    assert_eq!(names[0]["http.checksum"], format!("sha256:{sum}"));
    assert_eq!(names[1]["http.filename"], "g.tar");
}

#[test]
fn secrets_are_named_only() {
    let built = local(
        "RUN --mount=type=secret,id=a,required --mount=type=secret,id=b,env=TOKEN x $TOKEN\n",
    );
    let op = exec(&built.definition, "RUN");
    assert_eq!(op.secretenv[0].name, "TOKEN");
    assert!(op.secretenv[0].optional);
    let mount = op
        .mounts
        .iter()
        .find(|m| m.dest == "/run/secrets/a")
        .unwrap();
    assert!(!mount.secret_opt.as_ref().unwrap().optional);
    let name = find(&built.definition, "RUN").name;
    assert!(name.ends_with("x ****"), "{name}");
}

#[test]
fn named_contexts_stand_for_stages_and_images() {
    let contexts = [
        ("stage", "docker-image://other"),
        ("busybox", "local:mine"),
        ("src::linux/amd64", "https://h/r.git#main"),
        (
            "lay",
            "oci-layout://store@sha256:2222222222222222222222222222222222222222222222222222222222222222",
        ),
    ];
    let contexts = contexts
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let options = Options {
        contexts,
        session: "sess".to_owned(),
        ..options()
    };
    let mut images = Images::with(&[
        (
            "docker.io/library/other:latest",
            r#"{"Env":["X=1"],"WorkingDir":"/o"}"#,
        ),
        (
            "docker.io/library/lay@sha256:2222222222222222222222222222222222222222222222222222222222222222",
            "{}",
        ),
    ]);
    "*.md".clone_into(&mut images.ignore_file);
    let text = "FROM nowhere AS stage\nRUN never\nFROM stage\nRUN a\nCOPY --from=busybox /p/q /\nCOPY --from=src /s /\nCOPY --from=lay /l /\n";
    let built = convert(text.as_bytes(), &options, &mut images)
        .result
        .unwrap();
    let op = exec(&built.definition, "RUN a").meta.unwrap();
    assert_eq!(op.cwd, "/o");
    assert!(op.env.contains(&"X=1".to_owned()));
    let mine = source(&built.definition, "[context busybox] load from client");
    assert_eq!(mine.identifier, "local://mine");
    assert_eq!(mine.attrs["local.followpaths"], r#"["p/q"]"#);
    assert_eq!(mine.attrs["local.excludepatterns"], r#"["*.md"]"#);
    assert_eq!(mine.attrs["local.session"], "sess");
    assert_eq!(
        source(&built.definition, "[context src").identifier,
        "git://h/r.git#main"
    );
    let layout = source(&built.definition, "[context lay]");
    assert_eq!(layout.attrs["oci.store"], "store");
    assert!(!names(&built.definition).iter().any(|n| n.contains("never")));
}

#[test]
fn contexts_may_be_other_graphs() {
    let inner = converted("FROM busybox\nRUN inner\n", &options());
    let context = dockerfile::convert::Context::Definition(inner.definition);
    let built = converted(
        "FROM scratch\nCOPY x /\n",
        &Options {
            context,
            ..options()
        },
    );
    let shown = names(&built.definition);
    assert!(shown.iter().any(|n| n.contains("RUN inner")), "{shown:?}");
    let copy = find(&built.definition, "COPY x");
    assert_eq!(
        copy.op.inputs[0].digest,
        find(&built.definition, "RUN inner").digest
    );
    let git = dockerfile::convert::Context::Git {
        url: "https://h/r.git#v".to_owned(),
        keep_git_dir: true,
    };
    let built = converted(
        "FROM scratch\nCOPY x /\n",
        &Options {
            context: git,
            ..options()
        },
    );
    assert_eq!(
        source(&built.definition, "git source").attrs["git.keepgitdir"],
        "true"
    );
    let http = dockerfile::convert::Context::Http {
        url: "http://h/c.tar".to_owned(),
        unpack: true,
    };
    let built = converted(
        "FROM scratch\nCOPY x /\n",
        &Options {
            context: http,
            ..options()
        },
    );
    assert!(copies(&built.definition, "extracting")[0].attempt_unpack_docker_compatibility);
}

#[test]
fn platforms_are_the_stages() {
    let options = Options {
        platform: Some("linux/arm64".parse().unwrap()),
        multi_platform: true,
        ..options()
    };
    let text = "FROM --platform=$BUILDPLATFORM busybox AS b\nARG TARGETARCH\nRUN make $TARGETARCH\nFROM busybox\nRUN t\nCOPY --from=b /x /\n";
    let mut images = Images::with(&[]);
    let built = convert(text.as_bytes(), &options, &mut images)
        .result
        .unwrap();
    let shown = names(&built.definition);
    assert!(
        shown.contains(&"[linux/amd64->arm64 b 2/2] RUN make arm64".to_owned()),
        "{shown:?}"
    );
    assert!(
        shown.contains(&"[linux/arm64 stage-1 2/3] RUN t".to_owned()),
        "{shown:?}"
    );
    let architecture = |name: &str| {
        find(&built.definition, name)
            .op
            .platform
            .unwrap()
            .architecture
    };
    assert_eq!(
        (architecture("RUN make"), architecture("RUN t")),
        ("amd64".into(), "arm64".into())
    );
    assert_eq!(built.image.architecture, "arm64");
    assert_eq!(
        images.asked[0].log_name,
        "[linux/amd64 internal] load metadata for docker.io/library/busybox:latest"
    );
}

#[test]
fn steps_point_into_the_file() {
    let built = converted("FROM busybox\n\nRUN a \\\n  b\n", &options());
    let digest = find(&built.definition, "RUN").digest;
    let source = built.definition.source.unwrap();
    let lines: Vec<i32> = source.locations[&digest].locations[0]
        .ranges
        .iter()
        .map(|r| r.start.unwrap().line)
        .collect();
    assert_eq!(lines, [3, 4]);
    assert_eq!(source.infos[0].data, b"FROM busybox\n\nRUN a \\\n  b\n");
}

#[test]
fn nothing_is_no_operation() {
    let built = converted("FROM scratch\nLABEL a=b\n", &options());
    assert!(built.definition.def.is_empty());
    assert_eq!(built.definition.encode_to_vec().len(), 0);
}
