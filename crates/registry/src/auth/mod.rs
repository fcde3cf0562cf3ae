//! Who a client is, and what it may do.

pub(crate) mod glob;
pub(crate) mod htpasswd;
pub(crate) mod keys;
pub(crate) mod token;

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
use token::{Access, Grant, TokenError, Tokens};

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
    /// Tokens cannot be used.
    #[error("set up tokens")]
    Tokens(#[source] TokenError),
    /// A rule names users, and nothing says who they are.
    #[error("a rule of access names {0}, but there is no auth.htpasswd")]
    NoUsers(String),
}

/// A client, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Anonymous,
    User(Arc<str>),
    /// Whoever a token was given to; it says itself what it is good for.
    Bearer(Grant),
}

impl Who {
    /// The name for the log and for events.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Anonymous => "",
            Self::User(name) => name,
            Self::Bearer(grant) => &grant.subject,
        }
    }
}

/// The rules.
#[derive(Debug)]
pub(crate) struct Auth {
    realm: String,
    users: Option<Htpasswd>,
    tokens: Option<Tokens>,
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
        let tokens = config.auth.token.as_ref();
        let tokens = tokens
            .map(|token| Tokens::new(token, &config.root))
            .transpose();
        let tokens = tokens.map_err(AuthError::Tokens)?;
        if users.is_none() && tokens.as_ref().is_some_and(Tokens::issues) {
            return Err(AuthError::Tokens(TokenError::NoSource));
        }
        let mut rules = config.access.clone();
        let named = |rule: &Rule| rule.users.first().or(rule.groups.first()).cloned();
        if users.is_none()
            && let Some(name) = rules.iter().find_map(named)
        {
            return Err(AuthError::NoUsers(name));
        }
        let open = users.is_none() && tokens.is_none() && rules.is_empty();
        if rules.is_empty() {
            rules.push(everything_for_users());
        }
        Ok(Self {
            realm: config.auth.realm.replace(['"', '\\', '\r', '\n'], ""),
            users,
            tokens,
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
        if let Some(token) = bearer(text)
            && let Some(tokens) = &self.tokens
        {
            return match tokens.verify(token) {
                Some(grant) => Ok(Who::Bearer(grant)),
                None => Err(unauthorized("the token is not valid")),
            };
        }
        let Some(users) = &self.users else {
            return Ok(Who::Anonymous);
        };
        let wrong = || unauthorized("wrong user or password");
        let (user, password) = basic(text).ok_or_else(wrong)?;
        match users.verify(&user, &password).await {
            true => Ok(Who::User(user.into())),
            false => Err(wrong()),
        }
    }

    pub(crate) fn may(&self, who: &Who, name: &Name, right: Right) -> bool {
        self.open
            || granted(who, name, right)
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
            // a token's own words alone count
            Who::Anonymous | Who::Bearer(_) => return false,
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
            Who::Anonymous if self.knows_people() => Err(unauthorized("authentication required")),
            Who::Bearer(_) => Err(unauthorized("the token does not allow this")),
            Who::Anonymous | Who::User(_) => {
                let detail = json!({"name": name.as_str(), "action": action(right)});
                let refusal =
                    Refusal::new(Code::Denied, "requested access to the resource is denied");
                Err(refusal.detail(detail))
            }
        }
    }

    fn knows_people(&self) -> bool {
        self.users.is_some() || self.tokens.is_some()
    }

    /// Whether a client may come in at all.
    pub(crate) fn allow_entry(&self, who: &Who) -> Result<(), Refusal> {
        // clients learn here how they are to sign in: where there are tokens, guests get them too
        let guests = self.open || self.rules.iter().any(|rule| rule.anonymous);
        let enough = guests && self.tokens.is_none();
        match who {
            Who::Anonymous if !enough && self.knows_people() => {
                Err(unauthorized("authentication required"))
            }
            _ => Ok(()),
        }
    }

    /// Lists hold only what a client may read, so everybody who may come in may have them.
    pub(crate) fn allow_catalog(&self, who: &Who) -> Result<(), Refusal> {
        let guests = self.open || self.rules.iter().any(|rule| rule.anonymous);
        match who {
            Who::Anonymous if guests => Ok(()),
            other => self.allow_entry(other),
        }
    }

    /// How a client that was refused can sign in.
    pub(crate) fn challenge(&self, way: &Way<'_>) -> String {
        let tokens = self.tokens.as_ref().filter(|_| !way.basic);
        let Some(tokens) = tokens else {
            return format!("Basic realm=\"{}\"", self.realm);
        };
        let own = || format!("{}/token", way.origin);
        let realm = tokens.realm.clone().unwrap_or_else(own);
        let mut text = format!("Bearer realm=\"{realm}\",service=\"{}\"", tokens.service);
        if let Some(scope) = &way.scope {
            text.push_str(&format!(",scope=\"{scope}\""));
        }
        if way.had_token {
            text.push_str(",error=\"insufficient_scope\"");
        }
        text
    }

    /// A token for what of its wishes a client may do.
    pub(crate) fn token(&self, who: &Who, scopes: &[&str]) -> Result<(String, u64), Refusal> {
        let none = || Refusal::new(Code::Unsupported, "no tokens are given here");
        let tokens = self.tokens.as_ref().ok_or_else(none)?;
        let access: Vec<Access> = scopes
            .iter()
            .flat_map(|list| list.split([' ', '+']))
            .filter_map(|scope| self.grantable(who, scope))
            .collect();
        tokens.issue(who.name(), &access).ok_or_else(none)
    }

    /// `repository:team/app:pull,push`, less what the client may not do.
    fn grantable(&self, who: &Who, scope: &str) -> Option<Access> {
        let (kind, rest) = scope.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        if kind == "registry" {
            let actions = vec![actions.to_owned()];
            let (kind, name) = (kind.to_owned(), name.to_owned());
            return Some(Access {
                kind,
                name,
                actions,
            });
        }
        let name = Name::parse(name).filter(|_| kind == "repository")?;
        let rights = [Right::Pull, Right::Push, Right::Delete];
        let wanted = |right: &Right| actions.split(',').any(|a| a == action(*right) || a == "*");
        let given = rights
            .into_iter()
            .filter(|right| wanted(right) && self.may(who, &name, *right));
        let actions: Vec<String> = given.map(|right| action(right).to_owned()).collect();
        (!actions.is_empty()).then(|| Access {
            kind: kind.to_owned(),
            name: name.to_string(),
            actions,
        })
    }
}

/// What a challenge is about.
#[derive(Debug)]
pub(crate) struct Way<'a> {
    /// The registry's own address, as the client wrote it.
    pub(crate) origin: &'a str,
    /// What was wanted.
    pub(crate) scope: Option<String>,
    /// Whether a token was shown that was not enough.
    pub(crate) had_token: bool,
    /// Whether it is a browser, or one who wants a token.
    pub(crate) basic: bool,
}

/// Whether a token says so itself.
fn granted(who: &Who, name: &Name, right: Right) -> bool {
    let Who::Bearer(grant) = who else {
        return false;
    };
    grant.access.iter().any(|access| {
        let allows = |text: &String| text == "*" || text == action(right);
        access.kind == "repository"
            && access.name == name.as_str()
            && access.actions.iter().any(allows)
    })
}

/// Refuses a client that is not known; how it can sign in is told where the answer is written.
pub(crate) fn unauthorized(why: &'static str) -> Refusal {
    Refusal::new(Code::Unauthorized, why)
}

fn bearer(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(' ')?;
    let fits = scheme.eq_ignore_ascii_case("bearer") && rest.len() <= HEADER_MAX;
    fits.then(|| rest.trim())
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

pub(crate) fn action(right: Right) -> &'static str {
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
