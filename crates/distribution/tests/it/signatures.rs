//! Signatures: keys and signatures that other programs made, and a registry that wants to cheat.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use distribution::signature::{
    ARTIFACT_TYPE, Identity, PAYLOAD_TYPE, PrivateKey, PublicKey, SIGNATURE_ANNOTATION,
    SignaturePlace, VerifyError,
};
use distribution::{ClientConfig, Repository};
use oci::Digest;
use oci::image::media_type;
use serde_json::{Value, json};
use testkit::image::{Blob, TestImage, digest_of};
use testkit::registry::Registry;

use crate::fake::{Act, Fake, answer, complaint, descriptor, manifest_answer, ok, repository};

/// A document that openssl has signed with each of the keys below, for which it made the keys, too.
const DOCUMENT: &str = r#"{"critical":{"identity":{"docker-reference":"registry.example/team/app"},"image":{"docker-manifest-digest":"sha256:1111111111111111111111111111111111111111111111111111111111111111"},"type":"cosign container image signature"},"optional":{"creator":"openssl"}}"#;
const P256_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEKldFd7KEfB5z42DWxrXBLHm9SOrk
ulMv2nQvTJAChcvJpyQqKr+P5YlRbbBq7/cNdp5MUwSAOOPLD8dXsr3J0Q==
-----END PUBLIC KEY-----
";
const P256_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg8+04zMNzKuu6p47G
4e2OJ3vG/14WBPVO3/J0CRae+HihRANCAAQqV0V3soR8HnPjYNbGtcEseb1I6uS6
Uy/adC9MkAKFy8mnJCoqv4/liVFtsGrv9w12nkxTBIA448sPx1eyvcnR
-----END PRIVATE KEY-----
";
const P256_SIGNATURE: &str = "MEUCICutlUmzdC49FGR9NsE3cTaagfb0M5PGpPSzpN+6shSgAiEA2ggYu/pY7wqrN4Te75e7LkCYGl/FvOi3vAynEegMnps=";
const RSA_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA2nWhw7UlSOzZxiPZKI56
hQj59R45+t0/wMGRvXVIwrBCprcBE6akhGWD5pUJo/mnYvFPG6any6QhrdzMUwq1
UWFJgmDNE8oYj//DXPgUzXfBVw0WTXkvxKRIwiDO4ciDdfrZd83AFTKibGpitgY+
S/s93LvBU3VdIr7vzV31xEKikxpgYKOVyQ4A/knnv5SfEklkDDfDhZH5NlNg5n7O
30grT9c1m56rd9blbl1wSWHXV4ehhCpn46ofn+Zx4OpIuMeG4L/GgDnGyaQ+zYdb
/5woteUHVly2gV+MRF8bAL5I6S08MjanEbPQOxumh3nojJa2+pY7SRhh8diQ2+WV
+wIDAQAB
-----END PUBLIC KEY-----
";
const RSA_SIGNATURE: &str = "OKPVM3hMO3HJ1CLh/pbPa09IOgOP6vORKnScg+oLB4aGuZDCXEaKZC7OH+jf+ghDVcMM2up03NR2woYEp29lg+WVuPs5d26fieajsveqYnZ7aALwJ94UUUYFIyXZnfwJmMuGbC61n9FlG250x5sQFnE5cL/JArblGK/k7X9wYpK9P3+hbSrQPeHYiBVAeaiq60t9hUkwgxzZ5m4wg/EZl4CGxmhuxUliwOmB1ekSwmCsRePugCx9xIENEv+A7zrBk2tLcvY5lRHoi07bvdbzsBDMeAPNIqqAOmzZ/Ka8hyyDzI8QljXM8IrIby6qvPTp1mYJBIqb41Y2oISfvq8LOQ==";
const ED25519_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAAvAckw8PdmN3Fv8zPHoYu89SkqGi79JfEFs/OGFUuK8=
-----END PUBLIC KEY-----
";
const ED25519_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIEtOUCwv06ntuch97w6jnP+ONWOq+naw/NE02iyK/98e
-----END PRIVATE KEY-----
";
const ED25519_SIGNATURE: &str =
    "KEqLh5MA+cVj5wYYotuTWfzF6VWosOb0KrMYbL3mXObF42CPmb8hmvFHKrv4dugw1lebC9tFGl8qFtXZbo6TDw==";
/// Keys that are not taken: P-384, and RSA of 1,024 bits.
const P384_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEpFNFQmvSOklRHt07F9P+6+gE6/dDD7e8
M9kcK5tREThTGE77gsLaz3Gq13/Ke48f6BAmNftKmynPmRkPhdQJdAi+7nbZTElv
fUOeMsjgX3/X8sAFnNU1VGOvT4nzkKpi
-----END PUBLIC KEY-----
";
const SHORT_RSA_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDNuPU2hMO2vQwgc3yP6lUVYFdS
8nlhveHyufAx+F3vIOcHHNLiB5LY1dRcyLDy5lJZktWoqlsCXIBx8YYcsIm5h8v9
iHP0EhqGyz3IOYz2OLoCogl2DTgOlpBs0pHe8h5HcfNm7nBKNO3aLusuN1IPXWvK
99sQvisP2SPLMfmR4QIDAQAB
-----END PUBLIC KEY-----
";

/// A signature that cosign made.
const COSIGN_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAENptdY/l3nB0yqkXLBWkZWQwo6+cu
OSWS1X9vPavpiQOoTTGC0xX57OojUadxF1cdQmrsiReWg2Wn4FneJfa8xw==
-----END PUBLIC KEY-----";
const COSIGN_SIGNATURE: &str = "MEUCIQD6q/COgzOyW0YH1Dk+CCYSt4uAhm3FDHUwvPI55zwnlwIgE0ZK58ZOWpZw8YVmBapJhBqCfdPekIknimuO0xH8Jh8=";
const COSIGN_DOCUMENT: &str = r#"{"critical":{"identity":{"docker-reference":"registry-testing.svc.lan/busybox"},"image":{"docker-manifest-digest":"sha256:f3cfc9d0dbf931d3db4685ec659b7ac68e2a578219da4aae65427886e649b06b"},"type":"cosign container image signature"},"optional":null}"#;
const COSIGN_DIGEST: &str =
    "sha256:f3cfc9d0dbf931d3db4685ec659b7ac68e2a578219da4aae65427886e649b06b";

fn key(pem: &str) -> PublicKey {
    PublicKey::from_pem(pem.as_bytes()).unwrap()
}

#[test]
fn signatures_of_other_programs_fit_their_keys_alone() {
    let signed = [
        (P256_PUBLIC, DOCUMENT, P256_SIGNATURE),
        (RSA_PUBLIC, DOCUMENT, RSA_SIGNATURE),
        (ED25519_PUBLIC, DOCUMENT, ED25519_SIGNATURE),
        (COSIGN_PUBLIC, COSIGN_DOCUMENT, COSIGN_SIGNATURE),
    ];
    for (index, (public, document, signature)) in signed.iter().enumerate() {
        let signature = STANDARD.decode(signature).unwrap();
        assert!(
            key(public).verifies(document.as_bytes(), &signature),
            "{index}"
        );
        let mut other = document.as_bytes().to_vec();
        other[20] ^= 1;
        assert!(!key(public).verifies(&other, &signature), "{index}");
        for (other, (public, ..)) in signed.iter().enumerate() {
            let fits = key(public).verifies(document.as_bytes(), &signature);
            assert_eq!(fits, index == other, "{index} {other}");
        }
        for end in 0..signature.len() {
            assert!(!key(public).verifies(document.as_bytes(), &signature[..end]));
        }
    }
}

#[test]
fn keys_of_openssl_sign() {
    for (private, public) in [
        (P256_PRIVATE, P256_PUBLIC),
        (ED25519_PRIVATE, ED25519_PUBLIC),
    ] {
        let private = PrivateKey::from_pem(private.as_bytes()).unwrap();
        assert_eq!(private.public(), &key(public));
        assert_eq!(private.public_pem(), public);
        let signature = private.sign(b"text").unwrap();
        assert!(key(public).verifies(b"text", &signature));
    }
    let (made, pem) = PrivateKey::generate().unwrap();
    let again = PrivateKey::from_pem(pem.as_bytes()).unwrap();
    assert_eq!(again.public(), made.public());
    assert_eq!(&key(&made.public_pem()), made.public());
}

#[test]
fn what_is_no_key_is_refused_with_the_reason() {
    let cut = P256_PUBLIC.replace("MFkwEwYH", "MFkwEwYG");
    let long = "x".repeat(70_000);
    for (text, expect) in [
        ("", "it has no PEM block \"BEGIN PUBLIC KEY\""),
        ("not a key", "it has no PEM block \"BEGIN PUBLIC KEY\""),
        (
            P256_PRIVATE,
            "it has no PEM block \"BEGIN PUBLIC KEY\": it is a private key",
        ),
        (
            "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAA==\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----",
            "it has no PEM block \"BEGIN PUBLIC KEY\": it is encrypted",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----",
            "it has no PEM block \"BEGIN PUBLIC KEY\": it is a certificate",
        ),
        (
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
            "its public key is damaged",
        ),
        (cut.as_str(), "its public key is damaged"),
        (
            P384_PUBLIC,
            "keys of its kind (ECDSA on another curve) are not supported",
        ),
        (
            SHORT_RSA_PUBLIC,
            "keys of its kind (RSA of 1024 bits) are not supported",
        ),
        (long.as_str(), "it is longer than 65536 bytes"),
    ] {
        let error = PublicKey::from_pem(text.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(expect), "{error}");
    }
    for (text, expect) in [
        (
            P256_PUBLIC,
            "it has no PEM block \"BEGIN PRIVATE KEY\": it is a public key",
        ),
        (
            "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----",
            "it has no PEM block \"BEGIN PRIVATE KEY\": convert it",
        ),
        (
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
            "keys of its kind (another algorithm",
        ),
    ] {
        let error = PrivateKey::from_pem(text.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(expect), "{error}");
    }
}

/// A layer of a manifest of signatures.
fn layer(document: &[u8], signature: &str) -> Value {
    json!({
        "mediaType": PAYLOAD_TYPE,
        "digest": digest_of(document).to_string(),
        "size": document.len(),
        "annotations": {SIGNATURE_ANNOTATION: signature},
    })
}

fn manifest(layers: &[Value]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": descriptor(b"{}"),
        "layers": layers,
    })
}

/// A registry with this manifest at the tag of the signatures, and these blobs.
async fn signed_by(manifest: Value, blobs: Vec<Vec<u8>>) -> Fake {
    Fake::start(move |seen, _| {
        let found = blobs
            .iter()
            .find(|blob| seen.target.ends_with(&digest_of(blob).to_string()));
        match (seen.target.as_str(), found) {
            ("/v2/", _) => ok(b"{}"),
            (target, _) if target.ends_with(".sig") => manifest_answer(&manifest),
            (target, Some(blob)) if target.contains("/blobs/") => ok(blob),
            _ => complaint("404 Not Found", "MANIFEST_UNKNOWN", "manifest unknown"),
        }
    })
    .await
}

fn signed_digest() -> Digest {
    format!("sha256:{}", "1".repeat(64)).parse().unwrap()
}

async fn verify(fake: &Fake, identity: &Identity) -> Result<usize, String> {
    let keys = [key(ED25519_PUBLIC), key(P256_PUBLIC)];
    fake.repository()
        .verify(&signed_digest(), &keys, identity)
        .await
        .map(|found| found.key)
        .map_err(|error| distribution::chain(&error))
}

#[tokio::test]
async fn a_signature_among_others_is_found() {
    let document = DOCUMENT.as_bytes();
    let layers = [
        layer(b"{}", P256_SIGNATURE),
        json!({"mediaType": "text/plain", "digest": digest_of(b"x").to_string(), "size": 1}),
        layer(document, "no base64!"),
        layer(document, P256_SIGNATURE),
    ];
    let fake = signed_by(manifest(&layers), vec![b"{}".to_vec(), document.to_vec()]).await;
    assert_eq!(verify(&fake, &Identity::Any).await, Ok(1));
    let named = Identity::Named("registry.example/team/app".to_owned());
    assert_eq!(verify(&fake, &named).await, Ok(1));
    let error = verify(&fake, &Identity::Repository).await.unwrap_err();
    assert!(error.contains("and 1 more"), "{error}");
}

#[tokio::test]
async fn what_does_not_fit_is_told() {
    let document = DOCUMENT.as_bytes();
    let elsewhere = DOCUMENT.replace("1111111111", "2222222222");
    let huge = json!({
        "mediaType": PAYLOAD_TYPE, "digest": digest_of(document).to_string(), "size": 1_u64 << 40,
        "annotations": {SIGNATURE_ANNOTATION: P256_SIGNATURE},
    });
    let bare =
        json!({"mediaType": PAYLOAD_TYPE, "digest": digest_of(document).to_string(), "size": 9});
    let long = layer(document, &"A".repeat(10_000));
    for (layers, identity, expect) in [
        (vec![], Identity::Any, "has no signature of sha256:1111"),
        (
            vec![layer(document, P256_SIGNATURE)],
            Identity::Repository,
            "it signs the image as \"registry.example/team/app\", another repository",
        ),
        (
            vec![layer(elsewhere.as_bytes(), P256_SIGNATURE)],
            Identity::Any,
            "a signature was made by another key",
        ),
        (
            vec![layer(document, RSA_SIGNATURE)],
            Identity::Any,
            "a signature was made by another key",
        ),
        (
            vec![huge],
            Identity::Any,
            "a signed document is longer than 131072 bytes",
        ),
        (
            vec![bare],
            Identity::Any,
            "a signed document has no signature beside it",
        ),
        (
            vec![long],
            Identity::Any,
            "a signature is not in base64, or too long",
        ),
    ] {
        let blobs = vec![document.to_vec(), elsewhere.as_bytes().to_vec()];
        let fake = signed_by(manifest(&layers), blobs).await;
        let error = verify(&fake, &identity).await.unwrap_err();
        assert!(error.contains(expect), "{expect}: {error}");
    }
}

#[tokio::test]
async fn a_signature_of_another_image_does_not_fit() {
    let fake = signed_by(
        manifest(&[layer(COSIGN_DOCUMENT.as_bytes(), COSIGN_SIGNATURE)]),
        vec![COSIGN_DOCUMENT.as_bytes().to_vec()],
    )
    .await;
    let keys = [key(COSIGN_PUBLIC)];
    let repository = fake.repository();
    let right: Digest = COSIGN_DIGEST.parse().unwrap();
    let found = repository.verify(&right, &keys, &Identity::Any).await;
    assert_eq!(found.unwrap().key, 0);
    let other = signed_digest();
    let error = repository.verify(&other, &keys, &Identity::Any).await;
    let error = error.unwrap_err();
    let expect = format!("it signs {COSIGN_DIGEST}, another image");
    assert!(
        matches!(&error, VerifyError::Unfit { reasons, .. } if *reasons == expect),
        "{error}"
    );
}

#[tokio::test]
async fn thousands_of_signatures_are_not_read() {
    let document = DOCUMENT.as_bytes();
    let many: Vec<Value> = (0..400).map(|_| layer(document, RSA_SIGNATURE)).collect();
    let fake = signed_by(manifest(&many), vec![document.to_vec()]).await;
    let error = verify(&fake, &Identity::Any).await.unwrap_err();
    assert!(
        error.contains("fits: a signature was made by another key"),
        "{error}"
    );
    assert_eq!(fake.seen_at("/blobs/").len(), 64);
    let more: Vec<Value> = (0..4000).map(|_| layer(document, RSA_SIGNATURE)).collect();
    let fake = signed_by(manifest(&more), vec![document.to_vec()]).await;
    let error = verify(&fake, &Identity::Any).await.unwrap_err();
    assert!(
        error.contains("4000 layers are more than the limit"),
        "{error}"
    );
    assert_eq!(fake.seen_at("/blobs/").len(), 0);
}

#[tokio::test]
async fn a_document_that_is_another_than_it_says_is_refused() {
    let document = DOCUMENT.as_bytes().to_vec();
    let digest = digest_of(&document).to_string();
    let list = manifest(&[layer(&document, P256_SIGNATURE)]);
    let fake = Fake::start(move |seen, _| match seen.target.as_str() {
        "/v2/" => ok(b"{}"),
        target if target.ends_with(".sig") => manifest_answer(&list),
        target if target.ends_with(&digest) => ok(&vec![b'x'; document.len()]),
        _ => complaint("404 Not Found", "MANIFEST_UNKNOWN", "manifest unknown"),
    })
    .await;
    let error = verify(&fake, &Identity::Any).await.unwrap_err();
    assert!(error.contains("verification failed for digest"), "{error}");
}

#[tokio::test]
async fn a_registry_that_fails_is_no_lack_of_signatures() {
    let fake = Fake::start(|seen, _| match seen.target.as_str() {
        "/v2/" => ok(b"{}"),
        _ => complaint("500 Internal Server Error", "UNKNOWN", "disk full"),
    })
    .await;
    let error = verify(&fake, &Identity::Any).await.unwrap_err();
    assert!(
        error.starts_with("read the signatures of sha256:1111"),
        "{error}"
    );
    assert!(error.ends_with("unknown: disk full"), "{error}");
}

#[tokio::test]
async fn signatures_among_the_referrers_are_found() {
    let document = DOCUMENT.as_bytes().to_vec();
    let list = manifest(&[layer(&document, P256_SIGNATURE)]);
    let bytes = list.to_string().into_bytes();
    let (name, size) = (digest_of(&bytes).to_string(), bytes.len());
    let entry = name.clone();
    let fake = Fake::start(move |seen, _| match seen.target.as_str() {
        "/v2/" => ok(b"{}"),
        target if target.contains("/referrers/") => {
            let index = json!({
                "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
                "manifests": [{"mediaType": media_type::OCI_MANIFEST, "digest": entry, "size": size, "artifactType": ARTIFACT_TYPE}],
            });
            manifest_answer(&index)
        }
        target if target.ends_with(&name) => manifest_answer(&list),
        target if target.contains("/blobs/") => ok(&document),
        _ => complaint("404 Not Found", "MANIFEST_UNKNOWN", "manifest unknown"),
    })
    .await;
    assert_eq!(verify(&fake, &Identity::Any).await, Ok(1));
    let asked = fake.seen_at("/referrers/");
    let expect = "?artifactType=application%2Fvnd.dev.cosign.artifact.sig.v1%2Bjson";
    assert!(asked[0].target.ends_with(expect), "{}", asked[0].target);
}

async fn signed_image(registry: &Registry, tag: &str) -> (Repository, Digest) {
    let image = TestImage::empty().build().unwrap();
    let digest = registry.push("team/app", tag, &image).unwrap();
    let name = format!("{}/team/app:{tag}", registry.name());
    (repository(&name, ClientConfig::default()), digest)
}

#[tokio::test]
async fn what_is_signed_is_verified() {
    let registry = Registry::start().unwrap();
    let (repository, digest) = signed_image(&registry, "1").await;
    let (one, _) = PrivateKey::generate().unwrap();
    let (two, _) = PrivateKey::generate().unwrap();
    let check = async |key: &PrivateKey| {
        let keys = [key.public().clone()];
        let found = repository
            .verify(&digest, &keys, &Identity::Repository)
            .await;
        found
            .map(|found| found.key)
            .map_err(|error| error.to_string())
    };
    let error = check(&one).await.unwrap_err();
    assert!(error.contains("has no signature of"), "{error}");
    repository
        .sign(&digest, &one, SignaturePlace::Tag)
        .await
        .unwrap();
    assert_eq!(check(&one).await, Ok(0));
    let error = check(&two).await.unwrap_err();
    assert!(
        error.ends_with("a signature was made by another key"),
        "{error}"
    );
    // beside the first; and where the registry keeps no list, at the tag for it
    repository
        .sign(&digest, &two, SignaturePlace::Tag)
        .await
        .unwrap();
    assert_eq!((check(&one).await, check(&two).await), (Ok(0), Ok(0)));
    let (three, _) = PrivateKey::generate().unwrap();
    repository
        .sign(&digest, &three, SignaturePlace::Referrer)
        .await
        .unwrap();
    assert_eq!(check(&three).await, Ok(0));
    let found = repository
        .referrers(&digest, Some(ARTIFACT_TYPE))
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
}

#[tokio::test]
async fn a_signature_that_was_moved_does_not_fit() {
    let registry = Registry::start().unwrap();
    let (repository, digest) = signed_image(&registry, "1").await;
    let (key, _) = PrivateKey::generate().unwrap();
    repository
        .sign(&digest, &key, SignaturePlace::Tag)
        .await
        .unwrap();
    let image = TestImage::empty()
        .with_config("User", json!("evil"))
        .build()
        .unwrap();
    let other = registry.push("team/app", "2", &image).unwrap();
    let tag = |digest: &Digest| format!("sha256-{}.sig", digest.hex());
    let name = format!("{}/team/app:{}", registry.name(), tag(&digest));
    let moved = crate::fake::repository(&name, ClientConfig::default())
        .document()
        .await
        .unwrap();
    let blob = Blob::new(media_type::OCI_MANIFEST, moved.bytes.to_vec());
    registry
        .put_manifest("team/app", &tag(&other), &blob)
        .unwrap();
    let keys = [key.public().clone()];
    let error = repository
        .verify(&other, &keys, &Identity::Any)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("another image"), "{error}");
}

#[tokio::test]
async fn a_tag_that_is_no_manifest_of_signatures_is_none() {
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": []});
    let fake = signed_by(index, Vec::new()).await;
    let error = verify(&fake, &Identity::Any).await.unwrap_err();
    assert!(error.contains("has no signature of"), "{error}");
    let broken = Fake::start(|seen, _| -> Act {
        match seen.target.as_str() {
            "/v2/" => ok(b"{}"),
            _ => answer(
                "200 OK",
                &[("Content-Type", media_type::OCI_MANIFEST)],
                b"{",
            ),
        }
    })
    .await;
    let error = verify(&broken, &Identity::Any).await.unwrap_err();
    assert!(error.starts_with("read the signatures of"), "{error}");
}
