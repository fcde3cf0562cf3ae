//! A caller that knows some images, and a look into graphs.

use std::collections::BTreeMap;

use dockerfile::convert::{ImageRequest, Outcome, ResolveError, ResolvedImage};
use dockerfile::{Converted, Options, Resolve, convert, pb};
use prost::Message as _;

/// Digest that every image has.
pub(crate) const DIGEST: &str =
    "sha256:1111111111111111111111111111111111111111111111111111111111111111";

/// A caller that knows images by their normalised references.
#[derive(Default)]
pub(crate) struct Images {
    pub(crate) configs: BTreeMap<String, String>,
    pub(crate) asked: Vec<ImageRequest>,
    pub(crate) batches: Vec<usize>,
    pub(crate) ignore_file: String,
}

impl Images {
    /// Knows `busybox` and what else is given.
    pub(crate) fn with(more: &[(&str, &str)]) -> Self {
        let mut images = Self::default();
        let layers = r#""rootfs":{"type":"layers","diff_ids":["sha256:aa"]}"#;
        let busybox = format!(
            r#"{{"architecture":"amd64","os":"linux","created":"2020-01-01T00:00:00Z","config":{{"Env":["PATH=/bin"],"Cmd":["sh"]}},{layers},"history":[{{"comment":"imported"}}]}}"#
        );
        images
            .configs
            .insert("docker.io/library/busybox:latest".to_owned(), busybox);
        for (name, config) in more {
            let config = format!(
                r#"{{"architecture":"amd64","os":"linux","config":{config},{layers},"history":[{{}}]}}"#
            );
            images.configs.insert((*name).to_owned(), config);
        }
        images
    }
}

impl Resolve for Images {
    fn prefetch(&mut self, images: &[ImageRequest]) {
        self.batches.push(images.len());
    }

    fn image(&mut self, request: &ImageRequest) -> Result<ResolvedImage, ResolveError> {
        self.asked.push(request.clone());
        let config = self.configs.get(&request.reference).ok_or("not found")?;
        Ok(ResolvedImage {
            reference: None,
            digest: Some(DIGEST.to_owned()),
            config: config.clone().into_bytes(),
        })
    }

    fn ignore_file(&mut self, _: &str, _: &str) -> Result<Vec<u8>, ResolveError> {
        Ok(self.ignore_file.clone().into_bytes())
    }
}

/// Options of a machine that is always the same.
pub(crate) fn options() -> Options {
    Options {
        build_platforms: vec!["linux/amd64".parse().unwrap()],
        ..Options::default()
    }
}

pub(crate) fn outcome(text: &str, options: &Options) -> Outcome {
    convert(text.as_bytes(), options, &mut Images::with(&[]))
}

pub(crate) fn converted(text: &str, options: &Options) -> Converted {
    outcome(text, options)
        .result
        .unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// An operation of a definition with its name.
pub(crate) struct Op {
    pub(crate) name: String,
    pub(crate) digest: String,
    pub(crate) op: pb::Op,
}

/// A definition's operations by their names, without the last, which names the result.
pub(crate) fn operations(definition: &pb::Definition) -> Vec<Op> {
    let Some((_, operations)) = definition.def.split_last() else {
        return Vec::new();
    };
    let decoded = operations.iter().map(|bytes| {
        let digest = dockerfile::llb::digest(bytes);
        let metadata = definition
            .metadata
            .get(&digest)
            .cloned()
            .unwrap_or_default();
        let name = metadata
            .description
            .get(dockerfile::llb::NAME_KEY)
            .cloned()
            .unwrap_or_default();
        Op {
            name,
            digest,
            op: pb::Op::decode(bytes.as_slice()).unwrap(),
        }
    });
    decoded.collect()
}

pub(crate) fn names(definition: &pb::Definition) -> Vec<String> {
    operations(definition).into_iter().map(|o| o.name).collect()
}

/// The operation whose name contains a text.
pub(crate) fn find(definition: &pb::Definition, text: &str) -> Op {
    let mut all = operations(definition).into_iter();
    all.find(|o| o.name.contains(text))
        .unwrap_or_else(|| panic!("no {text}: {:?}", names(definition)))
}

pub(crate) fn exec(definition: &pb::Definition, text: &str) -> pb::ExecOp {
    match find(definition, text).op.op {
        Some(pb::op::Op::Exec(exec)) => exec,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn copies(definition: &pb::Definition, text: &str) -> Vec<pb::FileActionCopy> {
    let Some(pb::op::Op::File(file)) = find(definition, text).op.op else {
        panic!("no file op")
    };
    let copies = file.actions.into_iter().map(|a| match a.action {
        Some(pb::file_action::Action::Copy(copy)) => copy,
        other => panic!("{other:?}"),
    });
    copies.collect()
}

pub(crate) fn source(definition: &pb::Definition, text: &str) -> pb::SourceOp {
    match find(definition, text).op.op {
        Some(pb::op::Op::Source(source)) => source,
        other => panic!("{other:?}"),
    }
}
