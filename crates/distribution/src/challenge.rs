//! `WWW-Authenticate` (RFC 9110, 11.6.1; the distribution project's token specification).

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// How many challenges of one answer are looked at.
const CHALLENGES_MAX: usize = 16;

/// A way to authenticate that a server offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password in each request.
    Basic,
    /// A token from a token server.
    Bearer(Bearer),
}

/// The parameters of a `Bearer` challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub(crate) realm: String,
    pub(crate) service: String,
    pub(crate) scope: Option<String>,
}

/// All challenges of an answer that are understood, in the server's order.
pub(crate) fn parse(headers: &HeaderMap) -> Vec<Challenge> {
    let mut found = Vec::new();
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(text) = value.to_str() else { continue };
        let raw = Scanner { rest: text }.challenges();
        found.extend(raw.iter().filter_map(understand));
    }
    found.truncate(CHALLENGES_MAX);
    found
}

/// Whether a `Bearer` challenge says that the token is good but not for this (RFC 6750, 3.1).
pub(crate) fn lacks_scope(headers: &HeaderMap) -> bool {
    let values = headers.get_all(WWW_AUTHENTICATE).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let mut raw = texts.flat_map(|rest| Scanner { rest }.challenges());
    raw.any(|raw| {
        raw.scheme.eq_ignore_ascii_case("bearer")
            && raw.get("error").as_deref() == Some("insufficient_scope")
    })
}

struct Raw<'a> {
    scheme: &'a str,
    parameters: Vec<(&'a str, String)>,
}

impl Raw<'_> {
    fn get(&self, name: &str) -> Option<String> {
        let mut all = self.parameters.iter();
        let found = all.find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    }
}

fn understand(raw: &Raw<'_>) -> Option<Challenge> {
    if raw.scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !raw.scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    Some(Challenge::Bearer(Bearer {
        realm: raw.get("realm")?,
        service: raw.get("service").unwrap_or_default(),
        scope: raw.get("scope").filter(|scope| !scope.is_empty()),
    }))
}

struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    /// A word that is followed by `=` belongs to the challenge before it; any other word begins one.
    fn challenges(mut self) -> Vec<Raw<'a>> {
        let mut found: Vec<Raw<'a>> = Vec::new();
        loop {
            self.skip(&[' ', '\t', ',']);
            let word = self.word();
            if word.is_empty() {
                return found;
            }
            let after_word = self.rest;
            self.skip(&[' ', '\t']);
            if let (Some(value), Some(last)) = (self.rest.strip_prefix('='), found.last_mut()) {
                self.rest = value;
                let value = self.value();
                last.parameters.push((word, value));
            } else {
                self.rest = after_word;
                found.push(Raw {
                    scheme: word,
                    parameters: Vec::new(),
                });
            }
        }
    }

    fn skip(&mut self, what: &[char]) {
        self.rest = self.rest.trim_start_matches(what);
    }

    fn word(&mut self) -> &'a str {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn value(&mut self) -> String {
        self.skip(&[' ', '\t']);
        let Some(quoted) = self.rest.strip_prefix('"') else {
            let end = self.rest.find([',', ' ', '\t']).unwrap_or(self.rest.len());
            let (value, rest) = self.rest.split_at(end);
            self.rest = rest;
            return value.to_owned();
        };
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &quoted[at + 1..];
                    return value;
                }
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                other => value.push(other),
            }
        }
        self.rest = "";
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[&str], expected: &[Challenge]) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        assert_eq!(parse(&headers), expected, "{values:?}");
    }

    fn bearer(realm: &str, service: &str, scope: Option<&str>) -> Challenge {
        Challenge::Bearer(Bearer {
            realm: realm.into(),
            service: service.into(),
            scope: scope.map(Into::into),
        })
    }

    #[test]
    fn reads_what_registries_send() {
        let hub = bearer("https://auth.docker.io/token", "registry.docker.io", None);
        let hub_text =
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#;
        check(&[hub_text], std::slice::from_ref(&hub));
        check(&[r#"Basic realm="Registry Realm""#], &[Challenge::Basic]);
        check(&["Basic"], &[Challenge::Basic]);
        check(
            &[
                r#"bearer realm="https://a/t" , service = s, scope="repository:a/b:pull,push", error="x""#,
            ],
            &[bearer("https://a/t", "s", Some("repository:a/b:pull,push"))],
        );
        check(
            &[hub_text, "Basic realm=x"],
            &[hub.clone(), Challenge::Basic],
        );
        check(
            &[r#"Negotiate abc==, Basic realm="a, b", Bearer realm="r""#],
            &[Challenge::Basic, bearer("r", "", None)],
        );
    }

    #[test]
    fn survives_nonsense() {
        check(
            &[r#"Bearer realm="unclosed"#],
            &[bearer("unclosed", "", None)],
        );
        check(&[r#"Bearer realm="a\"b""#], &[bearer("a\"b", "", None)]);
        check(&["", "=", "\"", "Bearer", "=x=y", ",,,"], &[]);
    }
}
