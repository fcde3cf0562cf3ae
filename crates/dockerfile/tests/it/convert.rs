//! Image configurations and histories.

use crate::fixture::{Images, converted, names, options, outcome};
use dockerfile::{Options, convert};

/// Every instruction; what comes out was compared with Docker 28.5.
const EVERYTHING: &str = r#"ARG VER=1
FROM busybox AS base
ARG VER
ARG name=x other
ENV A=1 B="two words" C=$name
ENV legacy  value here
LABEL a=b "c d"=e
MAINTAINER me <x@y>
WORKDIR /w
WORKDIR rel
RUN echo hi > f && true
RUN ["/bin/sh","-c","true"]
COPY a b* /dst/
COPY --chown=1:2 --chmod=0644 a /x
COPY --link a /lnk
ADD a /y
COPY <<F1 <<"F2" /in/
hello $A
F1
raw $A
F2
RUN <<E
echo $A
E
EXPOSE 80 443/udp 8000-8002
VOLUME /v /w2
VOLUME ["/z"]
USER 0:0
STOPSIGNAL SIGTERM
SHELL ["/bin/sh","-ec"]
HEALTHCHECK --interval=30s --timeout=1m30s --retries=3 CMD echo "ok"
CMD echo hi
ENTRYPOINT ["a","b c"]
ONBUILD RUN echo trig
FROM base
CMD ["x"]
RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t --network=none true
HEALTHCHECK NONE
"#;

#[test]
fn history_is_dockers() {
    let built = converted(EVERYTHING, &options());
    let shown: Vec<String> = built
        .image
        .history
        .iter()
        .skip(1)
        .map(|h| format!("{}{}", if h.empty_layer { "" } else { "+" }, h.created_by))
        .collect();
    let args = "|3 VER=1 name=x other= /bin/sh";
    assert_eq!(
        shown,
        [
            "ARG VER=1",
            "ARG name=x other",
            "ENV A=1 B=two words C=x",
            "ENV legacy=value here",
            "LABEL a=b c d=e",
            "MAINTAINER me <x@y>",
            "+WORKDIR /w",
            "+WORKDIR /w/rel",
            &format!("+RUN {args} -c echo hi > f && true # buildkit"),
            &format!("+RUN {args} -c true # buildkit"),
            "+COPY a b* /dst/ # buildkit",
            "+COPY --chown=1:2 --chmod=0644 a /x # buildkit",
            "+COPY a /lnk # buildkit",
            "+ADD a /y # buildkit",
            "+COPY <<F1 <<F2 /in/ # buildkit",
            &format!("+RUN {args} -c echo $A\n # buildkit"),
            "EXPOSE [443/udp 80/tcp 8000/tcp 8001/tcp 8002/tcp]",
            "VOLUME [/v /w2]",
            "VOLUME [/z]",
            "USER 0:0",
            "STOPSIGNAL SIGTERM",
            "SHELL [/bin/sh -ec]",
            "HEALTHCHECK &{[\"CMD-SHELL\" \"echo \\\"ok\\\"\"] \"30s\" \"1m30s\" \"0s\" \"0s\" '\\x03'}",
            "CMD [\"/bin/sh\" \"-ec\" \"echo hi\"]",
            "ENTRYPOINT [\"a\" \"b c\"]",
            &format!("+RUN {args} -ec echo trig # buildkit"),
            "CMD [\"x\"]",
            &format!("+RUN {args} -ec true # buildkit"),
            "HEALTHCHECK &{[\"NONE\"] \"0s\" \"0s\" \"0s\" \"0s\" '\\x00'}",
        ]
    );
}

#[test]
fn configuration_is_dockers() {
    let built = converted(EVERYTHING, &options());
    let config = gofmt_config(&built);
    let want = r#"{"User":"0:0","ExposedPorts":{"443/udp":{},"80/tcp":{},"8000/tcp":{},"8001/tcp":{},"8002/tcp":{}},"Env":["PATH=/bin","A=1","B=two words","C=x","legacy=value here"],"Entrypoint":["a","b c"],"Cmd":["x"],"Volumes":{"/v":{},"/w2":{},"/z":{}},"WorkingDir":"/w/rel","Labels":{"a":"b","c d":"e"},"StopSignal":"SIGTERM","ArgsEscaped":true,"Healthcheck":{"Test":["NONE"]},"Shell":["/bin/sh","-ec"]}"#;
    assert_eq!(config, want);
    assert_eq!(built.image.author, "me <x@y>");
}

fn gofmt_config(built: &dockerfile::Converted) -> String {
    serde_json::to_string(&built.image.config).unwrap()
}

#[test]
fn steps_are_named_as_docker_names_them() {
    let built = converted(EVERYTHING, &options());
    let from = format!(
        "FROM docker.io/library/busybox:latest@{}",
        crate::fixture::DIGEST
    );
    let mut want = vec![
        format!("[base  1/11] {from}"),
        "[base  2/11] WORKDIR /w".to_owned(),
        "[base  3/11] WORKDIR rel".to_owned(),
        "[base  4/11] RUN echo hi > f && true".to_owned(),
        "[base  5/11] RUN [\"/bin/sh\",\"-c\",\"true\"]".to_owned(),
        "[base  6/11] COPY a b* /dst/".to_owned(),
        "[base  7/11] COPY --chown=1:2 --chmod=0644 a /x".to_owned(),
        "[base  8/11] COPY --link a /lnk".to_owned(),
        "[base  8/11] LINK COPY --link a /lnk".to_owned(),
        "[base  9/11] ADD a /y".to_owned(),
        "[base 10/11] COPY <<F1 <<F2 /in/".to_owned(),
        "[base 11/11] RUN <<E (echo 1)".to_owned(),
        "[internal] load build context".to_owned(),
        "[internal] preparing inline document".to_owned(),
        "[internal] preparing inline document".to_owned(),
        "[stage-1 1/2] ONBUILD RUN echo trig".to_owned(),
        "[stage-1 2/2] RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t --network=none true".to_owned(),
    ];
    let mut shown = names(&built.definition);
    want.sort();
    shown.sort();
    assert_eq!(shown, want);
}

#[test]
fn entrypoint_resets_the_bases_command() {
    let cmd = |text: &str| converted(text, &options()).image.config.cmd;
    assert_eq!(cmd("FROM busybox"), ["sh"]);
    assert!(cmd("FROM busybox\nENTRYPOINT [\"a\"]").is_empty());
    assert_eq!(cmd("FROM busybox\nCMD [\"b\"]\nENTRYPOINT [\"a\"]"), ["b"]);
    assert_eq!(
        cmd("FROM busybox\nCMD b\nENTRYPOINT [\"a\"]"),
        ["/bin/sh", "-c", "b"]
    );
}

#[test]
fn arguments_have_scopes() {
    let env = |text: &str, args: &[(&str, &str)]| {
        let args = args
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let options = Options {
            build_args: args,
            ..options()
        };
        let built = converted(text, &options);
        let op = crate::fixture::exec(&built.definition, "RUN x");
        op.meta.unwrap().env.join(" ")
    };
    assert_eq!(env("FROM busybox\nRUN x", &[("a", "1")]), "PATH=/bin");
    assert_eq!(env("ARG a=1\nFROM busybox\nRUN x", &[]), "PATH=/bin");
    assert_eq!(
        env("ARG a=1\nFROM busybox\nARG a\nRUN x", &[]),
        "PATH=/bin a=1"
    );
    assert_eq!(
        env("ARG a=1\nFROM busybox\nARG a=2\nRUN x", &[]),
        "PATH=/bin a=2"
    );
    assert_eq!(
        env("ARG a=1\nFROM busybox\nARG a=2\nRUN x", &[("a", "3")]),
        "PATH=/bin a=3"
    );
    assert_eq!(
        env(
            "ARG a=1\nARG b=${a}2\nFROM busybox\nARG b\nRUN x",
            &[("a", "3")]
        ),
        "PATH=/bin b=32"
    );
    assert_eq!(env("FROM busybox\nARG a\nRUN x", &[]), "PATH=/bin");
    assert_eq!(
        env("FROM busybox AS b\nARG a=1\nFROM b\nRUN x", &[]),
        "a=1 PATH=/bin"
    );
    assert_eq!(
        env("FROM busybox\nARG a=1\nENV a=2\nRUN x", &[]),
        "PATH=/bin a=2"
    );
    assert_eq!(
        env(
            "FROM busybox\nARG TARGETARCH\nARG TARGETPLATFORM\nRUN x",
            &[]
        ),
        "PATH=/bin TARGETARCH=amd64 TARGETPLATFORM=linux/amd64"
    );
    assert_eq!(
        env("FROM busybox\nENV a=$b\\$c '${a}'=\"$a x\"\nRUN x", &[]),
        "PATH=/bin a=$c ${a}= x"
    );
}

#[test]
fn unused_stages_are_not_looked_at() {
    let text = "FROM nowhere AS unused\nRUN x\nFROM busybox AS used\nRUN a\nFROM scratch\nCOPY --from=used /f /\n";
    let mut images = Images::with(&[]);
    let built = convert(text.as_bytes(), &options(), &mut images)
        .result
        .unwrap();
    assert_eq!(images.asked.len(), 1);
    assert_eq!(
        images.asked[0].log_name,
        "[internal] load metadata for docker.io/library/busybox:latest"
    );
    assert!(
        !names(&built.definition)
            .iter()
            .any(|n| n.contains("unused"))
    );
    let options = Options {
        target: "USED".to_owned(),
        ..options()
    };
    assert_eq!(converted(text, &options).stage, "used");
}

#[test]
fn bases_are_asked_for_together() {
    let text = "FROM busybox AS a\nFROM other AS b\nFROM scratch\nCOPY --from=a /x /\nCOPY --from=b /x /\nCOPY --from=third /x /\nCOPY --from=third /y /";
    let mut images = Images::with(&[
        ("docker.io/library/other:latest", "{}"),
        ("docker.io/library/third:latest", "{}"),
    ]);
    convert(text.as_bytes(), &options(), &mut images)
        .result
        .unwrap();
    assert_eq!((images.batches, images.asked.len()), (vec![3], 3));
}

#[test]
fn triggers_run_first_and_once() {
    let on = r#"{"OnBuild":["COPY --from=busybox /a /b","ENV x=1"],"WorkingDir":"/d"}"#;
    let mut images = Images::with(&[("docker.io/library/trig:latest", on)]);
    let text = "FROM trig AS a\nRUN a\nFROM a\nRUN b\n";
    let built = convert(text.as_bytes(), &options(), &mut images)
        .result
        .unwrap();
    let shown = names(&built.definition);
    assert!(
        shown.contains(&"[a 2/4] ONBUILD COPY --from=busybox /a /b".to_owned()),
        "{shown:?}"
    );
    assert!(built.image.config.on_build.is_empty());
    assert_eq!(
        built.image.config.env,
        [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "x=1"
        ]
    );
}

#[test]
fn triggers_cannot_go_on_for_ever() {
    let a = r#"{"OnBuild":["COPY --from=b /x /","ONBUILD RUN x"]}"#;
    let b = r#"{"OnBuild":["COPY --from=a /x /"]}"#;
    let mut images = Images::with(&[
        ("docker.io/library/a:latest", a),
        ("docker.io/library/b:latest", b),
    ]);
    let built = convert(b"FROM a", &options(), &mut images).result.unwrap();
    assert_eq!(built.image.config.on_build, ["RUN x"]);
    let wrong = r#"{"OnBuild":["FROM x"]}"#;
    let mut images = Images::with(&[("docker.io/library/w:latest", wrong)]);
    let error = convert(b"FROM w", &options(), &mut images)
        .result
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "FROM isn't allowed as an ONBUILD trigger"
    );
    assert_eq!(error.spans, [dockerfile::Span::line(1)]);
}

#[test]
fn time_and_labels_come_from_outside() {
    let options = Options {
        build_args: [("SOURCE_DATE_EPOCH".to_owned(), "1700000000".to_owned())].into(),
        labels: [("l".to_owned(), "1".to_owned())].into(),
        ..options()
    };
    let built = converted("FROM busybox\nLABEL l=0 m=1\nCOPY a /\n", &options);
    assert_eq!(built.epoch, Some(1_700_000_000));
    assert_eq!(
        built.image.history.last().unwrap().created.as_deref(),
        Some("2023-11-14T22:13:20Z")
    );
    assert_eq!(built.image.config.labels["l"], "1");
    assert_eq!(built.image.config.labels["m"], "1");
    assert_eq!(built.image.created, None);
    assert_eq!(
        crate::fixture::copies(&built.definition, "COPY")[0].timestamp,
        1_700_000_000_000_000_000
    );
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    use prost::Message as _;
    let once = converted(EVERYTHING, &options());
    let twice = converted(EVERYTHING, &options());
    assert_eq!(
        once.definition.encode_to_vec(),
        twice.definition.encode_to_vec()
    );
    assert_eq!(once.config, twice.config);
}

#[test]
fn huge_files_stay_small() {
    // each of many steps repeats all variables
    let mut text = "FROM busybox\n".to_owned();
    for i in 0..300 {
        text.push_str(&format!("ENV v{i}={}\n", "x".repeat(20_000)));
    }
    text.push_str(&(0..100).map(|i| format!("RUN {i}\n")).collect::<String>());
    let error = outcome(&text, &options()).result.unwrap_err();
    assert!(error.to_string().contains("graph is larger"), "{error}");
    let text = format!(
        "FROM busybox\n{}",
        (0..11_000)
            .map(|i| format!("ENV v{i}=\n"))
            .collect::<String>()
    );
    let error = outcome(&text, &options()).result.unwrap_err();
    assert!(
        error.to_string().contains("environment variables"),
        "{error}"
    );
}

#[test]
fn files_have_bounds() {
    let lines = |n: usize, line: &dyn Fn(usize) -> String| (0..n).map(line).collect::<String>();
    let chain = |i: usize| format!("FROM s{i} AS s{}\n", i + 1);
    let notes = lines(2_000, &|i| format!("LABEL l{i}={}\n", "x".repeat(100)));
    for (text, message) in [
        (
            lines(3_000, &|_| "FROM scratch\n".to_owned()),
            "more than 2000 stages",
        ),
        (
            lines(3_000, &|i| format!("ARG a{i}\n")) + "FROM scratch\n",
            "more than 2000 global arguments",
        ),
        (
            "FROM busybox\n".to_owned() + &lines(3_000, &|i| format!("COPY --from=i{i} / /\n")),
            "more than 2000 stages",
        ),
        (
            format!("FROM scratch AS s0\n{notes}{}", lines(500, &chain)),
            "history is longer",
        ),
    ] {
        let error = outcome(&text, &options()).result.unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let many = format!(
        "FROM busybox\n{}",
        lines(3_000, &|i| format!("LABEL a=$n{i}\n"))
    );
    assert_eq!(outcome(&many, &options()).warnings.len(), 1_000);
}
