//! Bearer tokens: JSON Web Tokens as Docker's token authentication has them, verified and given out.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::keys::{self, Key};
use crate::clock;
use crate::config;
use crate::ident;

/// The longest file of keys.
const FILE_MAX: u64 = 1 << 20;
/// How far clocks may differ, in seconds.
const SKEW: u64 = 60;

/// Tokens that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// A file cannot be read or made.
    #[error("use the keys in {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file holds no key that can be used.
    #[error("{} holds no public key of RSA, P-256 or Ed25519", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// Nobody says where tokens come from.
    #[error("auth.token needs keys and a realm, or issue with auth.htpasswd")]
    NoSource,
}

/// What a token allows on one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Access {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) actions: Vec<String>,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) subject: Arc<str>,
    pub(crate) access: Arc<[Access]>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    #[serde(default)]
    sub: String,
    aud: Audience,
    exp: f64,
    #[serde(default)]
    nbf: f64,
    #[serde(default)]
    access: Option<Vec<Access>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Who signs tokens, and for whom they are.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) realm: Option<String>,
    pub(crate) service: String,
    issuer: String,
    life: Duration,
    keys: Vec<Key>,
    signer: Option<Ed25519KeyPair>,
}

impl Tokens {
    pub(crate) fn new(config: &config::Token, root: &Path) -> Result<Self, TokenError> {
        let mut all = Vec::new();
        for path in &config.keys {
            let bytes = read(path).map_err(|source| failed(path, source))?;
            let found = keys::read(&bytes);
            if found.is_empty() {
                let path = path.clone();
                return Err(TokenError::NoKey { path });
            }
            all.extend(found);
        }
        let path = root.join("token.key");
        let signer = config.issue.then(|| signer(&path));
        let signer = signer.transpose().map_err(|source| failed(&path, source))?;
        all.extend(
            signer
                .iter()
                .map(|pair| Key::ed25519(pair.public_key().as_ref())),
        );
        let nowhere = config.realm.is_none() && signer.is_none();
        if all.is_empty() || nowhere {
            return Err(TokenError::NoSource);
        }
        let quoted = |text: &str| text.replace(['"', '\\', '\r', '\n'], "");
        Ok(Self {
            realm: config.realm.as_deref().map(quoted),
            service: quoted(&config.service),
            issuer: config.issuer.clone(),
            life: config.life.0,
            keys: all,
            signer,
        })
    }

    /// What a token says, if it is ours, for us, and of now.
    pub(crate) fn verify(&self, token: &str) -> Option<Grant> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
        let signature = decode(signature)?;
        if header.crit.is_some() {
            return None;
        }
        // a name that no key has is that of another scheme of names: any key may be meant
        let named = |key: &&Key| key.id.is_some() && key.id == header.kid;
        let named: Vec<&Key> = self.keys.iter().filter(named).collect();
        let candidates = match named.is_empty() {
            true => self.keys.iter().collect(),
            false => named,
        };
        let message = signed.as_bytes();
        let mut candidates = candidates.into_iter();
        if !candidates.any(|key| key.verifies(&header.alg, message, &signature)) {
            return None;
        }
        self.believe(serde_json::from_slice(&decode(claims)?).ok()?)
    }

    fn believe(&self, claims: Claims) -> Option<Grant> {
        let is_us = |name: &String| *name == self.service;
        let for_us = match &claims.aud {
            Audience::One(name) => is_us(name),
            Audience::Many(names) => names.iter().any(is_us),
        };
        let time = |at: f64| {
            Duration::try_from_secs_f64(at)
                .unwrap_or_default()
                .as_secs()
        };
        let now = clock::now();
        let of_now = now < time(claims.exp).saturating_add(SKEW)
            && time(claims.nbf) <= now.saturating_add(SKEW);
        (for_us && of_now && claims.iss == self.issuer).then(|| Grant {
            subject: claims.sub.into(),
            access: claims.access.unwrap_or_default().into(),
        })
    }

    /// Whether tokens are given out here.
    pub(crate) fn issues(&self) -> bool {
        self.signer.is_some()
    }

    /// A token, and the seconds that it is good for.
    pub(crate) fn issue(&self, subject: &str, access: &[Access]) -> Option<(String, u64)> {
        let signer = self.signer.as_ref()?;
        let now = clock::now();
        let life = self.life.as_secs().max(60);
        let claims = json!({
            "iss": self.issuer,
            "sub": subject,
            "aud": self.service,
            "exp": now + life,
            "nbf": now.saturating_sub(SKEW),
            "iat": now,
            "jti": ident::uuid().ok()?,
            "access": access,
        });
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let header = part(r#"{"alg":"EdDSA","typ":"JWT"}"#);
        let signed = format!("{header}.{}", part(&claims.to_string()));
        let signature = signer.sign(signed.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature.as_ref());
        Some((format!("{signed}.{signature}"), life))
    }
}

fn failed(path: &Path, source: io::Error) -> TokenError {
    TokenError::File {
        path: path.to_owned(),
        source,
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The registry's own key, made when there is none yet.
fn signer(path: &Path) -> io::Result<Ed25519KeyPair> {
    let bytes = match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
            let made = made.map_err(|_| io::Error::other("a key cannot be made"))?;
            let temporary = path.with_extension("new");
            let mut options = File::options();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(&temporary)?;
            file.write_all(made.as_ref())?;
            file.sync_all()?;
            std::fs::rename(&temporary, path)?;
            made.as_ref().to_vec()
        }
        other => other?,
    };
    Ed25519KeyPair::from_pkcs8(&bytes).map_err(|error| io::Error::other(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(folder: &Path, service: &str) -> Tokens {
        let config: config::Token = serde_json::from_value(json!({
            "service": service, "issuer": "me", "issue": true,
        }))
        .unwrap();
        Tokens::new(&config, folder).unwrap()
    }

    #[test]
    fn given_and_taken() {
        let folder = tempfile::tempdir().unwrap();
        let one = tokens(folder.path(), "one");
        let access = [Access {
            kind: "repository".to_owned(),
            name: "a/b".to_owned(),
            actions: vec!["pull".to_owned()],
        }];
        let (token, life) = one.issue("ann", &access).unwrap();
        assert_eq!(life, 300);
        let grant = one.verify(&token).unwrap();
        assert_eq!((&*grant.subject, &*grant.access), ("ann", &access[..]));
        assert!(
            tokens(folder.path(), "one").verify(&token).is_some(),
            "the key is kept"
        );
        assert!(
            tokens(folder.path(), "two").verify(&token).is_none(),
            "for another"
        );
        let other = tempfile::tempdir().unwrap();
        assert!(
            tokens(other.path(), "one").verify(&token).is_none(),
            "of another"
        );
        let mut forged: Vec<&str> = token.split('.').collect();
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        let text = forged.join(".");
        assert_eq!(text, token);
        forged[0] = &none;
        assert!(one.verify(&forged.join(".")).is_none());
        forged[2] = "";
        assert!(one.verify(&forged.join(".")).is_none());
        for bad in ["", ".", "..", "a.b.c", &token[..token.len() - 4]] {
            assert!(one.verify(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn time_and_audience() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = tokens(folder.path(), "one");
        let check = |change: &dyn Fn(&mut serde_json::Value), expect: bool| {
            let mut claims = json!({"iss": "me", "aud": "one", "exp": clock::now() + 10});
            change(&mut claims);
            let shown = claims.to_string();
            let read: Result<Claims, _> = serde_json::from_value(claims);
            let grant = read.ok().and_then(|claims| tokens.believe(claims));
            assert_eq!(grant.is_some(), expect, "{shown}");
        };
        check(&|_| {}, true);
        check(&|claims| claims["aud"] = json!(["x", "one"]), true);
        check(&|claims| claims["aud"] = json!(["x"]), false);
        check(&|claims| claims["iss"] = json!("you"), false);
        check(&|claims| claims["exp"] = json!(clock::now() - 100), false);
        check(&|claims| claims["exp"] = json!(-1e300), false);
        check(&|claims| claims["nbf"] = json!(clock::now() + 1000), false);
        check(
            &|claims| drop(claims.as_object_mut().unwrap().remove("exp")),
            false,
        );
    }

    #[test]
    fn a_source_is_needed() {
        let config: config::Token =
            serde_json::from_value(json!({"service": "a", "issuer": "b"})).unwrap();
        assert!(Tokens::new(&config, Path::new("/none")).is_err());
    }
}
