//! What a cache says of itself: layers by their blobs, and results by the keys that lead to them.
//!
//! The shape is that of BuildKit's `cacheconfig.v0`, with the keys and outputs of this builder beside it:
//! BuildKit's own keys mean other things, so that neither takes the other's results for its own.

use std::collections::HashMap;

use engine::BuiltLayer;
use oci::Digest;
use oci::image::Descriptor;
use serde::{Deserialize, Serialize};

use crate::cache::ExportRecord;
use crate::cache::keys::{Part, key};
use crate::error::{Error, Result, Step};
use crate::export::layers::descriptor;

/// The media type of the document.
pub(super) const MEDIA_TYPE: &str = "application/vnd.buildkit.cacheconfig.v0";
/// The longest document that is read.
pub(super) const MAX: u64 = 32 << 20;
/// Layers and records of one at most.
const LAYERS_MAX: usize = 20_000;
const RECORDS_MAX: usize = 50_000;
/// Layers that lie on each other, outputs of a step, and keys of one.
const DEPTH_MAX: usize = 500;
const OUTPUTS_MAX: usize = 64;
const KEYS_MAX: usize = 16;
/// Layers of all results together, those counted for each that lie under several.
const STACKED_MAX: usize = 1_000_000;
/// The longest description.
const TEXT_MAX: usize = 16 << 10;

/// The document.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Document {
    #[serde(default)]
    pub(super) layers: Vec<Layer>,
    #[serde(default)]
    pub(super) records: Vec<Record>,
}

/// A layer by its blob.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Layer {
    blob: Digest,
    /// The layer below, -1 for none.
    #[serde(default)]
    parent: i64,
    annotations: About,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct About {
    media_type: String,
    #[serde(rename = "diffID")]
    diff_id: Digest,
    size: u64,
}

/// A result.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Record {
    /// By what later operations know it.
    digest: Digest,
    /// The results that it was made from, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<Vec<Link>>,
    #[serde(default)]
    gorae: Own,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Link {
    link: usize,
}

/// What this builder knows of a result.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Own {
    #[serde(default)]
    keys: Vec<Digest>,
    /// The topmost layer of each output, -1 for an empty one.
    #[serde(default)]
    outputs: Vec<i64>,
    #[serde(default)]
    description: String,
}

/// A result that a document names.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) primary: Digest,
    pub(super) keys: Vec<Digest>,
    /// The layers of each output, the lowest first.
    pub(super) outputs: Vec<Vec<(Descriptor, Digest)>>,
    pub(super) description: String,
}

/// A document as it grows.
#[derive(Debug, Default)]
pub(super) struct Writer {
    document: Document,
    /// Places of layers by what they hold with all below.
    places: HashMap<Digest, i64>,
}

/// The keys of each operation of a list: the primary one, and all that lead to it.
pub(super) fn keys(records: &[ExportRecord]) -> Result<Vec<(Digest, Vec<Digest>)>> {
    let mut all: Vec<(Digest, Vec<Digest>)> = Vec::with_capacity(records.len());
    for record in records {
        let made = |input: &crate::cache::ExportInput| {
            let (primary, _) = all
                .get(input.record)
                .ok_or_else(|| Error::internal("a result stands before what it was made from"))?;
            Ok(Part::Made {
                primary: primary.clone(),
                output: input.output,
            })
        };
        let fast: Vec<Part> = record.inputs.iter().map(made).collect::<Result<_>>()?;
        let slow = record.inputs.iter().zip(&fast).map(|(input, made)| {
            let content = input.content.clone().map(Part::Content);
            content.unwrap_or_else(|| made.clone())
        });
        let slow: Vec<Part> = slow.collect();
        let primary = key(&record.operation, &fast);
        let mut keys = vec![primary.clone()];
        if slow != fast {
            keys.push(key(&record.operation, &slow));
        }
        all.push((primary, keys));
    }
    Ok(all)
}

impl Writer {
    /// Adds layers that lie on each other, and answers the place of the topmost.
    fn layers(&mut self, layers: &[BuiltLayer]) -> i64 {
        let mut parent = -1;
        for layer in layers {
            let next = i64::try_from(self.document.layers.len()).unwrap_or(i64::MAX);
            let place = *self.places.entry(layer.chain.clone()).or_insert(next);
            if place == next {
                self.document.layers.push(Layer {
                    blob: layer.blob.digest.clone(),
                    parent,
                    annotations: About {
                        media_type: layer.blob.media_type.clone(),
                        diff_id: layer.diff_id.clone(),
                        size: layer.blob.size,
                    },
                });
            }
            parent = place;
        }
        parent
    }

    /// Adds a result.
    pub(super) fn add(
        &mut self,
        (primary, keys): (Digest, Vec<Digest>),
        outputs: &[Vec<BuiltLayer>],
        description: &str,
    ) {
        let outputs = outputs.iter().map(|layers| self.layers(layers)).collect();
        self.document.records.push(Record {
            digest: primary,
            inputs: Vec::new(),
            gorae: Own {
                keys,
                outputs,
                description: description.to_owned(),
            },
        });
    }

    /// Whether nothing was added.
    pub(super) fn is_empty(&self) -> bool {
        self.document.records.is_empty()
    }

    /// The document.
    pub(super) fn finish(self) -> Result<Vec<u8>> {
        serde_json::to_vec(&self.document).step(|| "write the document of a cache")
    }

    /// The document as it stands in the configuration of an image.
    pub(super) fn into_value(self) -> Result<serde_json::Value> {
        serde_json::to_value(&self.document).step(|| "write the cache of an image")
    }
}

impl Document {
    /// Reads a document, which anybody may have written.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let wrong = |error| Error::invalid(format!("invalid cache: {error}"));
        let document: Self = serde_json::from_slice(bytes).map_err(wrong)?;
        document.check()
    }

    /// The same from a part of another document.
    pub(super) fn of(value: serde_json::Value) -> Result<Self> {
        let wrong = |error| Error::invalid(format!("invalid cache: {error}"));
        let document: Self = serde_json::from_value(value).map_err(wrong)?;
        document.check()
    }

    fn check(self) -> Result<Self> {
        if self.layers.len() > LAYERS_MAX || self.records.len() > RECORDS_MAX {
            return Err(Error::invalid(format!(
                "invalid cache: {} layers and {} records are too many",
                self.layers.len(),
                self.records.len()
            )));
        }
        Ok(self)
    }

    /// The results of this builder that are named well; what is not is left.
    pub(super) fn found(&self) -> Vec<Found> {
        let mut left = STACKED_MAX;
        let records = self.records.iter();
        records
            .filter_map(|record| self.found_one(record, &mut left))
            .collect()
    }

    fn found_one(&self, record: &Record, left: &mut usize) -> Option<Found> {
        let own = &record.gorae;
        let fits = !own.keys.is_empty()
            && own.keys.len() <= KEYS_MAX
            && !own.outputs.is_empty()
            && own.outputs.len() <= OUTPUTS_MAX
            && own.description.len() <= TEXT_MAX;
        if !fits {
            return None;
        }
        let outputs = own.outputs.iter().map(|top| self.stack(*top, left));
        Some(Found {
            primary: record.digest.clone(),
            keys: own.keys.clone(),
            outputs: outputs.collect::<Option<_>>()?,
            description: own.description.clone(),
        })
    }

    /// The layers below and with a layer; nothing where they lie in a circle or are no layers.
    fn stack(&self, top: i64, left: &mut usize) -> Option<Vec<(Descriptor, Digest)>> {
        let mut stack = Vec::new();
        let mut next = top;
        while next != -1 {
            *left = left.checked_sub(1)?;
            let layer = self.layers.get(usize::try_from(next).ok()?)?;
            let about = &layer.annotations;
            storage::Compression::from_media_type(&about.media_type)?;
            let blob = descriptor(&about.media_type, &layer.blob, about.size);
            stack.push((blob, about.diff_id.clone()));
            if stack.len() > DEPTH_MAX {
                return None;
            }
            next = layer.parent;
        }
        stack.reverse();
        Some(stack)
    }
}

#[cfg(test)]
mod tests {
    use oci::image::media_type;

    use super::*;

    fn digest(n: u8) -> Digest {
        Digest::from_sha256(&[n; 32])
    }

    fn layer(n: u8, below: &[u8]) -> BuiltLayer {
        BuiltLayer {
            blob: descriptor(media_type::OCI_LAYER_GZIP, &digest(n), 10),
            diff_id: digest(n + 100),
            chain: storage::digest_of(&[below, &[n]].concat()),
            size: 20,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        let (base, one, two) = (layer(1, &[]), layer(2, &[1]), layer(3, &[1]));
        let keys = |n: u8| (digest(n), vec![digest(n), digest(n + 50)]);
        writer.add(keys(10), &[vec![base.clone(), one]], "RUN one");
        writer.add(keys(11), &[vec![base, two], Vec::new()], "RUN two");
        let document = Document::read(&writer.finish().unwrap()).unwrap();
        // what both stand on is there once
        assert_eq!(document.layers.len(), 3);
        let found = document.found();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].keys, [digest(11), digest(61)]);
        assert_eq!(found[1].outputs[0].len(), 2);
        assert_eq!(found[1].outputs[0][1].1, digest(103));
        assert!(found[1].outputs[1].is_empty());
        assert_eq!(found[0].description, "RUN one");
    }

    #[test]
    fn hostile_documents() {
        let text =
            |layers: &str, record: &str| format!(r#"{{"layers":[{layers}],"records":[{record}]}}"#);
        let (a, kind) = (digest(1), media_type::OCI_LAYER_GZIP);
        let layer = |parent: i64, kind: &str| {
            format!(
                r#"{{"blob":"{a}","parent":{parent},"annotations":{{"mediaType":"{kind}","diffID":"{a}","size":1}}}}"#
            )
        };
        let record = |outputs: &str, keys: &str| {
            format!(r#"{{"digest":"{a}","gorae":{{"keys":[{keys}],"outputs":[{outputs}]}}}}"#)
        };
        let key = format!("\"{a}\"");
        for (document, count) in [
            (text(&layer(-1, kind), &record("0", &key)), 1),
            // in a circle, beyond the end, before the beginning
            (text(&layer(0, kind), &record("0", &key)), 0),
            (text(&layer(7, kind), &record("0", &key)), 0),
            (text(&layer(-2, kind), &record("0", &key)), 0),
            (text(&layer(-1, kind), &record("9", &key)), 0),
            // what is no layer
            (text(&layer(-1, "text/plain"), &record("0", &key)), 0),
            // BuildKit's own records have none of our keys
            (text(&layer(-1, kind), &record("0", "")), 0),
            (text(&layer(-1, kind), &format!(r#"{{"digest":"{a}"}}"#)), 0),
        ] {
            let found = Document::read(document.as_bytes()).unwrap().found();
            assert_eq!(found.len(), count, "{document}");
        }
        for wrong in ["", "1", r#"{"layers":[{"blob":"sha256:x"}]}"#] {
            assert!(Document::read(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let many = vec![record("0", &key); RECORDS_MAX + 1].join(",");
        assert!(Document::read(text("", &many).as_bytes()).is_err());
    }

    #[test]
    fn keys_are_by_definition_and_by_content() {
        let record = |operation: u8, inputs: Vec<crate::cache::ExportInput>| ExportRecord {
            operation: digest(operation),
            inputs,
            outputs: Vec::new(),
            description: String::new(),
            created: None,
            result: false,
        };
        let input = |content: Option<Digest>| crate::cache::ExportInput {
            record: 0,
            output: 0,
            content,
        };
        let all = keys(&[
            record(1, Vec::new()),
            record(2, vec![input(None)]),
            record(2, vec![input(Some(digest(9)))]),
        ])
        .unwrap();
        assert_eq!(all[0].1.len(), 1);
        assert_eq!(all[1].0, all[2].0);
        assert_eq!((all[1].1.len(), all[2].1.len()), (1, 2));
        assert!(keys(&[record(1, vec![input(None)])]).is_err());
    }
}
