//! What signatures images must have, and the check of one before anything of it is stored.
//!
//! The check is on the digest that the reference was resolved to, and all that is fetched afterwards
//! hangs on that digest: there is no second look at the name between check and use.

use api::image::Progress;
use distribution::signature::{Identity, PublicKey, VerifyError};
use distribution::{Repository, Resolved, chain};
use oci::Reference;

use super::pull::{ProgressSender, tell};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// What is asked of the images of some repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureRule {
    /// Which repositories, `registry/path` with `*` for a part of a name and `**` for any.
    pub pattern: String,
    /// What is asked.
    pub demand: Demand,
    /// Keys of which one must have signed.
    pub keys: Vec<PublicKey>,
    /// Under which name.
    pub identity: Identity,
    /// Where the rule stands, for messages.
    pub origin: String,
}

/// What happens to an image that no key has signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// It is refused.
    Signature,
    /// It is pulled, and a warning says so.
    Warn,
    /// Nothing: nobody looks.
    Ignore,
}

/// The rules in their order; the first that fits decides, and where none fits nothing is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignaturePolicy(pub Vec<SignatureRule>);

impl SignaturePolicy {
    /// The rule for a repository.
    #[must_use]
    pub fn rule(&self, reference: &Reference) -> Option<&SignatureRule> {
        let name = canonical(reference);
        self.0.iter().find(|rule| fits(&rule.pattern, &name))
    }
}

/// A repository's one name: hosts are the same in capitals, and with the port that is meant anyway.
fn canonical(reference: &Reference) -> String {
    let domain = reference.domain().to_ascii_lowercase();
    let host = domain.strip_suffix(":443").unwrap_or(&domain);
    format!("{host}/{}", reference.path())
}

/// Whether a pattern means a name. `*` stands for anything but `/`, `**` for anything.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    // reachable[i]: the pattern up to here can mean the first i bytes
    let mut reachable = vec![false; name.len() + 1];
    reachable[0] = true;
    let mut at = 0;
    while at < pattern.len() {
        if pattern[at] == b'*' {
            let any = pattern.get(at + 1) == Some(&b'*');
            for i in 1..=name.len() {
                reachable[i] |= reachable[i - 1] && (any || name[i - 1] != b'/');
            }
            at += if any { 2 } else { 1 };
        } else {
            for i in (1..=name.len()).rev() {
                reachable[i] = reachable[i - 1] && name[i - 1] == pattern[at];
            }
            reachable[0] = false;
            at += 1;
        }
    }
    reachable[name.len()]
}

impl Engine {
    /// Checks that an image is signed as the policy asks, by the digest that it was resolved to.
    ///
    /// `source` is who was asked for the image: its registry, or a mirror, that has the signatures too.
    pub(super) async fn verify_signature(
        &self,
        reference: &Reference,
        source: &Repository,
        resolved: &Resolved,
        progress: &ProgressSender,
    ) -> Result<()> {
        let settings = self.settings();
        let Some(rule) = settings.signature_policy.rule(reference) else {
            return Ok(());
        };
        if rule.demand == Demand::Ignore {
            return Ok(());
        }
        let digest = resolved.digest();
        let error = match source.verify(digest, &rule.keys, &rule.identity).await {
            Ok(found) => {
                let key = rule.keys[found.key].id();
                let image = reference.familiar();
                tracing::info!(image, %digest, key, "the image is signed");
                return Ok(());
            }
            Err(error) => error,
        };
        let why = chain(&error);
        let image = reference.familiar();
        if rule.demand == Demand::Warn {
            tracing::warn!(image, %digest, why, rule = rule.origin, "an image is not signed");
            let text = format!("Warning: the signature of {image} was not verified: {why}");
            return tell(progress, Progress::status(text)).await;
        }
        let kind = match error {
            VerifyError::Registry { .. } => Kind::System,
            _ => Kind::Forbidden,
        };
        let text = format!(
            "image {image} is refused: its signature was not verified: {why} (rule {})",
            rule.origin
        );
        Err(Error::new(kind, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expect) in [
            (
                "docker.io/library/busybox",
                "docker.io/library/busybox",
                true,
            ),
            ("docker.io/library/*", "docker.io/library/busybox", true),
            ("docker.io/*", "docker.io/library/busybox", false),
            ("docker.io/**", "docker.io/library/busybox", true),
            ("**", "r.example:5000/a", true),
            ("r.example*/a", "r.example:5000/a", true),
            ("*/a", "r.example/b/a", false),
            ("**/a", "r.example/b/a", true),
            ("r.example/a", "r.example/ab", false),
            ("r.example/a*b*c", "r.example/aXbYbc", true),
            ("r.example/a", "xr.example/a", false),
            ("", "r.example/a", false),
        ] {
            assert_eq!(fits(pattern, name), expect, "{pattern} {name}");
        }
    }

    #[test]
    fn the_first_rule_decides() {
        let rule = |pattern: &str, demand| SignatureRule {
            pattern: pattern.to_owned(),
            demand,
            keys: Vec::new(),
            identity: Identity::Any,
            origin: String::new(),
        };
        let policy = SignaturePolicy(vec![
            rule("r.example/open/*", Demand::Ignore),
            rule("r.example/**", Demand::Signature),
        ]);
        for (name, expect) in [
            ("r.example/open/a:1", Some(Demand::Ignore)),
            ("r.example/a:1", Some(Demand::Signature)),
            ("R.Example/a:1", Some(Demand::Signature)),
            ("r.example:443/a:1", Some(Demand::Signature)),
            ("busybox", None),
        ] {
            let reference: Reference = name.parse().unwrap();
            let found = policy.rule(&reference).map(|rule| rule.demand);
            assert_eq!(found, expect, "{name}");
        }
    }
}
