//! Images in the engine's store and in registries.

use std::collections::BTreeMap;

use engine::{BuiltPush, ContentLease, RemotePlace};
use oci::image::Descriptor;
use oci::{Digest, Reference};
use storage::Packing;

use super::Export;
use super::assemble::{Release, Way, assemble};
use super::options::Packed;
use crate::error::{Error, Result, Step};
use crate::progress::Status;
use crate::source;

/// Makes the image, gives it its names, and pushes it where that is wanted.
pub(super) async fn export(export: &Export<'_>) -> Result<BTreeMap<String, String>> {
    let options = &export.options;
    let names = names(export)?;
    // what stays here needs no packed blobs: they are made when somebody pushes
    // but what an index names has its digest for good
    let is_list = export.solved.refs.len() > 1 || options.annotations.of_index();
    let travels = options.push || is_list || export.solved_statements();
    let way = Way {
        packed: if travels {
            Packed::By(Packing::default())
        } else {
            Packed::AsIs
        },
        oci: !options.push,
        attests: options.push,
    };
    let release = assemble(export, way).await?;
    let head = release.head().ok_or_else(nothing)?.descriptor.clone();
    let mut names = names;
    if names.is_empty() && !options.dangling_prefix.is_empty() {
        let name = format!("{}@{}", options.dangling_prefix, head.digest);
        tracing::debug!(name, "an image without a name is known by its id");
    }
    let stored = match options.store {
        true => store(export, &release, &names).await?,
        false => None,
    };
    if options.push {
        push(export, &release, &names, stored.as_ref()).await?;
    }
    let mut answer = answer(&release, &head, options.push)?;
    if !names.is_empty() {
        let shown: Vec<String> = names.drain(..).map(|name| name.to_string()).collect();
        answer.insert("image.name".to_owned(), shown.join(","));
    }
    Ok(answer)
}

fn nothing() -> Error {
    Error::internal("an image has no manifest")
}

/// The names, complete; a name with a digest is for pushes without a tag alone.
fn names(export: &Export<'_>) -> Result<Vec<Reference>> {
    let options = &export.options;
    let mut texts = options.names.clone();
    if texts == ["*"] {
        // the front end knows the name
        let name = export.solved.metadata.get("image.name");
        let name = name.and_then(|bytes| String::from_utf8(bytes.clone()).ok());
        texts = name
            .map(|text| text.split(',').map(str::to_owned).collect())
            .unwrap_or_default();
    }
    if texts.is_empty() && options.push {
        return Err(Error::invalid("tag is needed when pushing to registry"));
    }
    let read = |text: &String| {
        let wrong = |error: oci::reference::ParseReferenceError| {
            Error::invalid(format!("invalid tag {text:?}: {error}"))
        };
        let name: Reference = text.parse().map_err(wrong)?;
        Ok(name.or_latest())
    };
    texts.iter().map(read).collect()
}

impl Export<'_> {
    /// Whether statements were asked for by themselves, which fixes the digests that they are about.
    fn solved_statements(&self) -> bool {
        let mut all = self.solved.attestations.values().flatten();
        self.options.inline_attestations || all.any(|one| !one.inline_only)
    }
}

/// Answers the id of the image that has the names.
async fn store(
    export: &Export<'_>,
    release: &Release,
    names: &[Reference],
) -> Result<Option<Digest>> {
    let engine = &export.job.builder()?.engine;
    let tags = names.iter().filter(|name| name.digest().is_none());
    let built = release.built(tags.cloned().collect());
    let writing: Vec<_> = release
        .images
        .iter()
        .map(|image| format!("writing image {}", image.config.digest()))
        .map(|text| export.progress.part(text))
        .collect();
    let ids = engine.image_add_built(built).await?;
    drop(writing);
    for name in names {
        drop(export.progress.part(format!("naming to {name}")));
    }
    Ok(ids.into_iter().next())
}

async fn push(
    export: &Export<'_>,
    release: &Release,
    names: &[Reference],
    stored: Option<&Digest>,
) -> Result<()> {
    let builder = export.job.builder()?;
    let engine = &builder.engine;
    let _lease = keep(export, release).await?;
    let head = release.head().ok_or_else(nothing)?;
    let below = release.below();
    let manifests = below.into_iter().chain([head]);
    let manifests = manifests.map(|one| (one.descriptor.media_type.clone(), one.bytes.clone()));
    let manifests: Vec<_> = manifests.collect();
    let small = release.small();
    let blobs: Vec<_> = small.into_iter().map(|one| one.bytes.clone()).collect();
    let progress = &export.progress;
    let told = |blob: &Descriptor, sent: u64, completed: bool| {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        progress.status(Status {
            id: format!("pushing {}", blob.digest),
            current: signed(sent),
            total: signed(blob.size),
            completed,
            ..Status::default()
        });
    };
    for name in names {
        let sessions = &export.job.sessions;
        let auth = source::image::credentials(&builder.sessions, sessions, name).await;
        let request = BuiltPush {
            place: RemotePlace {
                reference: name.clone(),
                auth,
                insecure: export.options.insecure,
            },
            by_digest: export.options.push_by_digest,
            layers: release.layers(),
            blobs: blobs.clone(),
            manifests: manifests.clone(),
        };
        let _pushing = progress.part(format!("pushing manifest for {name}@{}", head.digest()));
        let pushed = engine.image_push_built(&request, &told).await;
        let digest = pushed.map_err(|error| {
            Error::from(error).context(format!("failed to push {}", name.familiar()))
        })?;
        if let Some(id) = stored {
            engine.image_pushed(id, name, &digest).await?;
        }
    }
    Ok(())
}

/// Keeps the documents of an image that is stored nowhere for as long as it is on its way.
async fn keep(export: &Export<'_>, release: &Release) -> Result<ContentLease> {
    let builder = export.job.builder()?;
    let layers = release.layers().into_iter();
    let digests = layers.flat_map(|layer| [layer.blob.digest, layer.chain]);
    Ok(builder.engine.keep_content(digests.collect()).await)
}

/// What the client is told of an image.
fn answer(release: &Release, head: &Descriptor, pushed: bool) -> Result<BTreeMap<String, String>> {
    let mut answer = BTreeMap::new();
    let config = release.images.first().map(|image| image.config.digest());
    let is_one = release.images.len() == 1;
    // an image that stays here is known by its configuration, as Docker knows it
    let own: &Digest = match config {
        Some(config) if is_one && !pushed && release.index.is_none() => config,
        _ => &head.digest,
    };
    answer.insert("containerimage.digest".to_owned(), own.to_string());
    if let Some(config) = config.filter(|_| is_one) {
        let key = "containerimage.config.digest".to_owned();
        answer.insert(key, config.to_string());
    }
    let bytes = serde_json::to_vec(head).step(|| "write the descriptor of an image")?;
    let text = encode(&bytes);
    answer.insert("containerimage.descriptor".to_owned(), text);
    Ok(answer)
}

/// Base64 as Go's standard encoding (RFC 4648, 4).
pub(super) fn encode(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for piece in bytes.chunks(3) {
        let all = piece.iter().chain([&0, &0]).take(3);
        let bits = all.fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        for place in 0..4_usize {
            let at = (bits >> (18 - 6 * place)) & 63;
            let letter = ALPHABET[usize::try_from(at).unwrap_or(0)];
            text.push(if place > piece.len() {
                '='
            } else {
                char::from(letter)
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_gos() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
            ("\u{ff}?>", "w78/Pg=="),
        ] {
            assert_eq!(encode(plain.as_bytes()), text);
        }
    }
}
