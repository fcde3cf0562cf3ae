//! `gorae image keygen`, `sign` and `verify`: signatures as cosign makes them with keys.

use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::{output, remote};
use anyhow::Context;
use distribution::Repository;
use distribution::signature::{Identity, KEY_MAX, PrivateKey, PublicKey, SignaturePlace};
use oci::{Digest, Reference};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

pub(crate) static KEYGEN: Verb = Verb {
    about: "Make a pair of keys for signatures of images (ECDSA on P-256), NAME.key and NAME.pub",
    usage: "[NAME]",
    operands: Operands::between(0, 1),
    flags: &[],
    examples: &[("image keygen release", "Write release.key and release.pub")],
    run: |call| Box::pin(async { keygen(call) }),
};

pub(crate) static SIGN: Verb = Verb {
    about: "Sign an image in its registry",
    usage: "[OPTIONS] IMAGE --key FILE",
    operands: Operands::between(1, 1),
    flags: &[&[
        Flag::switch("insecure", remote::INSECURE),
        Flag::one("key", "file", "Private key in PEM (PKCS #8, not encrypted)"),
        Flag::switch(
            "referrer",
            "Store the signature as a referrer of the image, not at its tag",
        ),
    ]],
    examples: &[(
        "image sign --key release.key r.example.org/app:1",
        "Sign what the tag now names",
    )],
    run: |call| Box::pin(sign(call)),
};

pub(crate) static VERIFY: Verb = Verb {
    about: "Verify the signature of an image in its registry",
    usage: "[OPTIONS] IMAGE --key FILE",
    operands: Operands::between(1, 1),
    flags: &[&[
        Flag::one(
            "identity",
            "name",
            "Repository that the image was signed as: \"repository\" for its own, \"any\", or a name",
        )
        .default("repository"),
        Flag::switch("insecure", remote::INSECURE),
        Flag::many("key", "file", "Public key in PEM; one of several is enough"),
    ]],
    examples: &[(
        "image verify --key release.pub r.example.org/app:1",
        "See whether the key has signed the image",
    )],
    run: |call| Box::pin(verify(call)),
};

fn keygen(call: &Call) -> anyhow::Result<u8> {
    let name = call.operands.first().map_or("gorae", String::as_str);
    let (private, public) = (format!("{name}.key"), format!("{name}.pub"));
    if Path::new(&public).exists() {
        return Err(Failure::message(format!("{public} is there already")).into());
    }
    let (key, pem) = PrivateKey::generate().context("cannot make a key")?;
    write_new(&private, &pem, 0o600)?;
    write_new(&public, &key.public_pem(), 0o644)?;
    output::line(format!("Wrote {private} and {public}"))?;
    Ok(0)
}

/// Writes a file that must not be there: a key is never overwritten.
fn write_new(path: &str, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("cannot make {path}"))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("cannot write {path}"))
}

fn read_key(path: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(KEY_MAX as u64 + 1).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read key {path}"))?;
    Ok(bytes)
}

async fn sign(call: &Call) -> anyhow::Result<u8> {
    let path = call.text_or_empty("key");
    if path.is_empty() {
        return Err(call.misused("needs --key FILE").into());
    }
    let key = PrivateKey::from_pem(&read_key(&path)?)
        .with_context(|| format!("key {path} cannot be used"))?;
    let (reference, repository, digest) = named(call).await?;
    let place = match call.on("referrer") {
        true => SignaturePlace::Referrer,
        false => SignaturePlace::Tag,
    };
    repository.sign(&digest, &key, place).await?;
    output::line(format!("Signed {}@{digest}", reference.familiar_name()))?;
    Ok(0)
}

async fn verify(call: &Call) -> anyhow::Result<u8> {
    let paths = call.list("key");
    if paths.is_empty() {
        return Err(call.misused("needs --key FILE").into());
    }
    let mut keys = Vec::new();
    for path in &paths {
        let key = PublicKey::from_pem(&read_key(path)?);
        keys.push(key.with_context(|| format!("key {path} cannot be used"))?);
    }
    let identity = match call.text("identity").unwrap_or("repository") {
        "repository" => Identity::Repository,
        "any" => Identity::Any,
        name => Identity::Named(remote::reference(name)?.name()),
    };
    let (reference, repository, digest) = named(call).await?;
    let found = repository.verify(&digest, &keys, &identity).await?;
    let name = reference.familiar_name();
    let path = paths[found.key];
    output::line(format!("{name}@{digest} is signed by {path}"))?;
    Ok(0)
}

/// The digest that the operand means in its registry now.
async fn named(call: &Call) -> anyhow::Result<(Reference, Repository, Digest)> {
    let reference = remote::reference(&call.operands[0])?;
    let repository = remote::repository(&call.globals, &reference, call.on("insecure")).await?;
    let document = repository.document().await;
    let document = document.map_err(|error| remote::failure(&reference, &error))?;
    Ok((reference, repository, document.descriptor.digest))
}
