//! Who a client is, and what it may do.

pub(crate) mod glob;
pub(crate) mod htpasswd;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use serde_json::json;

use crate::config::{Config, Right, Rule};
use crate::name::Name;
use crate::refusal::{Code, Refusal};
use htpasswd::Htpasswd;

/// The longest `Authorization` that is looked at.
const HEADER_MAX: usize = 16 << 10;

/// Authentication that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The file of users cannot be read.
    #[error("read users from {}", path.display())]
    Users {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A rule names users, and nothing says who they are.
    #[error("a rule of access names {0}, but there is no auth.htpasswd")]
    NoUsers(String),
}

/// A client, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Anonymous,
    User(Arc<str>),
}

impl Who {
    /// The name for the log and for events.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Anonymous => "",
            Self::User(name) => name,
        }
    }
}

/// The rules.
#[derive(Debug)]
pub(crate) struct Auth {
    realm: String,
    users: Option<Htpasswd>,
    groups: BTreeMap<String, Vec<String>>,
    rules: Vec<Rule>,
    /// Whether there are no rules at all: everybody may do everything.
    open: bool,
}

impl Auth {
    pub(crate) fn new(config: &Config) -> Result<Self, AuthError> {
        let users = config.auth.htpasswd.as_deref().map(|path| {
            Htpasswd::open(path).map_err(|source| AuthError::Users {
                path: path.to_owned(),
                source,
            })
        });
        let users = users.transpose()?;
        let mut rules = config.access.clone();
        let named = |rule: &Rule| rule.users.first().or(rule.groups.first()).cloned();
        if users.is_none()
            && let Some(name) = rules.iter().find_map(named)
        {
            return Err(AuthError::NoUsers(name));
        }
        let open = users.is_none() && rules.is_empty();
        if rules.is_empty() {
            rules.push(everything_for_users());
        }
        Ok(Self {
            realm: config.auth.realm.replace(['"', '\\', '\r', '\n'], ""),
            users,
            groups: config.groups.clone(),
            rules,
            open,
        })
    }

    /// Who sends a request.
    pub(crate) async fn identify(&self, headers: &HeaderMap) -> Result<Who, Refusal> {
        let text = headers.get(header::AUTHORIZATION);
        let Some(text) = text.and_then(|value| value.to_str().ok()) else {
            return Ok(Who::Anonymous);
        };
        let Some(users) = &self.users else {
            return Ok(Who::Anonymous);
        };
        let (user, password) = basic(text).ok_or_else(|| self.unauthorized())?;
        match users.verify(&user, &password).await {
            true => Ok(Who::User(user.into())),
            false => Err(self.unauthorized()),
        }
    }

    pub(crate) fn may(&self, who: &Who, name: &Name, right: Right) -> bool {
        self.open
            || self.rules.iter().any(|rule| {
                let grants = rule.rights.contains(&right);
                let mut patterns = rule.repositories.iter();
                grants
                    && self.is_for(rule, who)
                    && patterns.any(|pattern| glob::fits(pattern, name.as_str()))
            })
    }

    fn is_for(&self, rule: &Rule, who: &Who) -> bool {
        let user = match who {
            // what everybody may do, those who signed in may do too
            _ if rule.anonymous => return true,
            Who::Anonymous => return false,
            Who::User(user) => user,
        };
        let is = |name: &String| name == "*" || **name == **user;
        let in_group = |group: &String| {
            let members = self.groups.get(group);
            members.is_some_and(|members| members.iter().any(|member| **member == **user))
        };
        rule.users.iter().any(is) || rule.groups.iter().any(in_group)
    }

    pub(crate) fn allow(&self, who: &Who, name: &Name, right: Right) -> Result<(), Refusal> {
        if self.may(who, name, right) {
            return Ok(());
        }
        match who {
            Who::Anonymous if self.users.is_some() => Err(self.unauthorized()),
            _ => {
                let detail = json!({"name": name.as_str(), "action": action(right)});
                let refusal =
                    Refusal::new(Code::Denied, "requested access to the resource is denied");
                Err(refusal.detail(detail))
            }
        }
    }

    /// Whether a client may come in at all.
    pub(crate) fn allow_entry(&self, who: &Who) -> Result<(), Refusal> {
        let guests = self.open || self.rules.iter().any(|rule| rule.anonymous);
        match who {
            Who::Anonymous if !guests && self.users.is_some() => Err(self.unauthorized()),
            _ => Ok(()),
        }
    }

    /// Lists hold only what a client may read, so everybody who may come in may have them.
    pub(crate) fn allow_catalog(&self, who: &Who) -> Result<(), Refusal> {
        self.allow_entry(who)
    }

    /// Who reads the page signs in by the browser's own means.
    pub(crate) fn allow_page(&self, who: &Who) -> Result<(), Refusal> {
        self.allow_entry(who).map_err(|_| self.unauthorized_page())
    }

    pub(crate) fn unauthorized_page(&self) -> Refusal {
        let challenge = format!("Basic realm=\"{}\"", self.realm);
        Refusal::new(Code::Unauthorized, "authentication required")
            .header(header::WWW_AUTHENTICATE, &challenge)
    }

    pub(crate) fn unauthorized(&self) -> Refusal {
        let challenge = format!("Basic realm=\"{}\"", self.realm);
        Refusal::new(Code::Unauthorized, "authentication required")
            .header(header::WWW_AUTHENTICATE, &challenge)
    }
}

/// What holds where users are known and no rule says more.
fn everything_for_users() -> Rule {
    Rule {
        users: vec!["*".to_owned()],
        repositories: vec!["**".to_owned()],
        rights: vec![Right::Pull, Right::Push, Right::Delete],
        ..Rule::default()
    }
}

fn action(right: Right) -> &'static str {
    match right {
        Right::Pull => "pull",
        Right::Push => "push",
        Right::Delete => "delete",
    }
}

/// User and password of a `Basic` header.
fn basic(text: &str) -> Option<(String, String)> {
    let (scheme, rest) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || rest.len() > HEADER_MAX {
        return None;
    }
    let pair = STANDARD.decode(rest.trim()).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    let (user, password) = pair.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(users: &[&str], repositories: &[&str], rights: &[Right]) -> Rule {
        let owned = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
        Rule {
            users: owned(users),
            repositories: owned(repositories),
            rights: rights.to_vec(),
            ..Rule::default()
        }
    }

    #[test]
    fn rules() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        std::fs::write(&path, "").unwrap();
        let mut config = Config::default();
        config.auth.htpasswd = Some(path);
        config
            .groups
            .insert("ops".to_owned(), vec!["bob".to_owned()]);
        let guests = Rule {
            anonymous: true,
            ..rule(&[], &["public/**"], &[Right::Pull])
        };
        let ops = Rule {
            groups: vec!["ops".to_owned()],
            ..rule(&[], &["**"], &[Right::Pull, Right::Delete])
        };
        let anns = rule(&["ann"], &["ann/*"], &[Right::Pull, Right::Push]);
        config.access = vec![guests, ops, anns];
        let auth = Auth::new(&config).unwrap();
        let check = |user: &str, name: &str, right: Right, expect: bool| {
            let who = match user {
                "" => Who::Anonymous,
                user => Who::User(user.into()),
            };
            let name = Name::parse(name).unwrap();
            assert_eq!(
                auth.may(&who, &name, right),
                expect,
                "{user} {name} {right:?}"
            );
        };
        check("", "public/a", Right::Pull, true);
        check("", "public/a", Right::Push, false);
        check("", "ann/a", Right::Pull, false);
        check("ann", "public/a", Right::Pull, true);
        check("ann", "ann/a", Right::Push, true);
        check("ann", "ann/a", Right::Delete, false);
        check("ann", "bob/a", Right::Pull, false);
        check("bob", "ann/a", Right::Delete, true);
        check("bob", "ann/a", Right::Push, false);
        let name = Name::parse("ann/a").unwrap();
        let refusal = auth.allow(&Who::Anonymous, &name, Right::Pull).unwrap_err();
        assert_eq!(refusal.code, Code::Unauthorized);
        let refusal = auth
            .allow(&Who::User("x".into()), &name, Right::Pull)
            .unwrap_err();
        assert_eq!(refusal.code, Code::Denied);
        config.auth.htpasswd = None;
        assert!(Auth::new(&config).is_err());
    }

    #[test]
    fn headers() {
        let header = format!("Basic {}", STANDARD.encode("ann:a:b"));
        assert_eq!(basic(&header), Some(("ann".to_owned(), "a:b".to_owned())));
        for bad in ["Basic", "Basic !", "Bearer x", "Basic YW5u"] {
            assert_eq!(basic(bad), None, "{bad}");
        }
    }
}
