//! `gorae manifest annotate`.

use super::document::EntryPlatform;
use super::store::Store;
use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::remote;
use oci::Reference;

pub(crate) static VERB: Verb = Verb {
    about: "Add additional information to a local image manifest",
    usage: "[OPTIONS] MANIFEST_LIST MANIFEST",
    operands: Operands::between(2, 2),
    flags: &[&[
        Flag::one("arch", "string", "Set architecture"),
        Flag::one("os", "string", "Set operating system"),
        Flag::many("os-features", "strings", "Set operating system feature"),
        Flag::one("os-version", "string", "Set operating system version"),
        Flag::one("variant", "string", "Set architecture variant"),
    ]],
    examples: &[(
        "manifest annotate --variant v7 r.example.org/app:1 r.example.org/app:1-arm",
        "Say which arm it is",
    )],
    run: |call| Box::pin(async { run(call) }),
};

fn run(call: &Call) -> anyhow::Result<u8> {
    let (first, second) = (&call.operands[0], &call.operands[1]);
    let list = parsed(first, "manifest list")?;
    let image = parsed(second, "manifest")?;
    let store = Store::open(&call.globals)?;
    let mut entry = store.get(&list, &image)?.ok_or_else(|| {
        Failure::message(format!(
            "manifest for image {second} does not exist in {first}"
        ))
    })?;
    let mut platform = entry.descriptor.platform.take().unwrap_or_default();
    change(call, &mut platform);
    if !platform.is_known() {
        return Err(Failure::message(format!(
            "manifest entry for image has unsupported os/arch combination: {}/{}",
            call.text_or_empty("os"),
            call.text_or_empty("arch")
        ))
        .into());
    }
    entry.descriptor.platform = Some(platform);
    store.save(&list, &image, &entry)?;
    Ok(0)
}

fn parsed(text: &str, what: &str) -> Result<Reference, Failure> {
    remote::reference(text).map_err(|error| {
        Failure::message(format!(
            "annotate: error parsing name for {what} {text}: {error}"
        ))
    })
}

fn change(call: &Call, platform: &mut EntryPlatform) {
    let texts = [
        ("os", &mut platform.os),
        ("arch", &mut platform.architecture),
        ("variant", &mut platform.variant),
        ("os-version", &mut platform.os_version),
    ];
    for (flag, place) in texts {
        if let Some(text) = call.text(flag).filter(|text| !text.is_empty()) {
            text.clone_into(place);
        }
    }
    let features = call.list("os-features");
    for feature in features.iter().flat_map(|text| text.split(',')) {
        if !feature.is_empty() && !platform.os_features.iter().any(|known| known == feature) {
            platform.os_features.push(feature.to_owned());
        }
    }
}
