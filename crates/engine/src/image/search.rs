//! Searching a registry for images.

use api::Filters;
use api::image::SearchResult;
use api::registry::AuthConfig;
use distribution::{Found, Search};

use super::{credentials, registry_error};
use crate::engine::Engine;
use crate::error::{Error, Result};

/// Results where no limit is given, and the most.
const LIMIT_DEFAULT: i64 = 25;
const LIMIT_MAX: i64 = 100;

impl Engine {
    /// Searches Docker Hub, or the registry in front of the term.
    ///
    /// # Errors
    /// When a parameter is wrong, or the registry cannot be reached or has no search.
    pub async fn image_search(
        &self,
        term: &str,
        limit: i64,
        filters: &Filters,
        auth: Option<&AuthConfig>,
    ) -> Result<Vec<SearchResult>> {
        let wanted = Wanted::read(filters)?;
        let search = search(term, limit)?;
        if wanted.automated {
            // no registry has told it for years
            return Ok(Vec::new());
        }
        let credentials = auth.map(credentials);
        let found = self
            .registries()
            .search(&search, credentials.as_ref())
            .await
            .map_err(|e| registry_error(&e))?;
        Ok(found
            .into_iter()
            .filter(|one| wanted.accepts(one))
            .map(shown)
            .collect())
    }
}

/// The filters of a search.
struct Wanted {
    automated: bool,
    official: Option<bool>,
    stars: i64,
}

impl Wanted {
    fn read(filters: &Filters) -> Result<Self> {
        filters.validate(&["is-automated", "is-official", "stars"])?;
        let mut stars = 0;
        for text in filters.get("stars") {
            let least: i64 = text
                .parse()
                .map_err(|_| Error::invalid(format!("invalid filter 'stars={text}'")))?;
            stars = stars.max(least);
        }
        let official = filters
            .contains("is-official")
            .then(|| filters.bool_or("is-official", false))
            .transpose()?;
        Ok(Self {
            automated: filters.bool_or("is-automated", false)?,
            official,
            stars,
        })
    }

    fn accepts(&self, found: &Found) -> bool {
        found.star_count >= self.stars
            && self
                .official
                .is_none_or(|wanted| found.is_official == wanted)
    }
}

fn shown(found: Found) -> SearchResult {
    SearchResult {
        star_count: found.star_count,
        is_official: found.is_official,
        name: found.name,
        is_automated: found.is_automated,
        description: found.description,
    }
}

/// Splits a registry's name from the term: what has a dot or a port, or is `localhost`.
fn search(term: &str, limit: i64) -> Result<Search> {
    let limit = match limit {
        0 => LIMIT_DEFAULT,
        1..=LIMIT_MAX => limit,
        _ => {
            return Err(Error::invalid(format!(
                "limit {limit} is outside the range of [1, {LIMIT_MAX}]"
            )));
        }
    };
    if term.contains("://") {
        return Err(Error::invalid(format!(
            "invalid repository name: repository name ({term}) should not have a scheme"
        )));
    }
    let (registry, rest) = match term.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => ("", term),
    };
    let hub = matches!(registry, "" | "docker.io" | "index.docker.io");
    Ok(Search {
        registry: if hub { "" } else { registry }.to_owned(),
        // Docker Hub knows its own images without their folder
        term: rest
            .strip_prefix("library/")
            .filter(|_| hub)
            .unwrap_or(rest)
            .to_owned(),
        limit: u32::try_from(limit).unwrap_or(100),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_name_their_registry() {
        for (term, registry, rest) in [
            ("busybox", "", "busybox"),
            ("library/busybox", "", "busybox"),
            ("docker.io/library/x", "", "x"),
            ("a/b/c", "", "a/b/c"),
            ("localhost/a", "localhost", "a"),
            ("r.example:5000/a/b", "r.example:5000", "a/b"),
            ("r.example/library/b", "r.example", "library/b"),
            ("", "", ""),
        ] {
            let found = search(term, 0).unwrap();
            let expect = Search {
                registry: registry.to_owned(),
                term: rest.to_owned(),
                limit: 25,
            };
            assert_eq!(found, expect, "{term}");
        }
    }

    #[test]
    fn wrong_parameters_are_refused_as_by_docker() {
        for (term, limit, message) in [
            ("a", 101, "limit 101 is outside the range of [1, 100]"),
            ("a", -1, "limit -1 is outside the range of [1, 100]"),
            (
                "https://a/b",
                0,
                "invalid repository name: repository name (https://a/b) should not have a scheme",
            ),
        ] {
            assert_eq!(search(term, limit).unwrap_err().message(), message);
        }
        for (filters, message) in [
            (r#"{"x":["1"]}"#, "invalid filter 'x'"),
            (r#"{"stars":["x"]}"#, "invalid filter 'stars=x'"),
            (
                r#"{"is-official":["x"]}"#,
                "invalid filter 'is-official=[x]'",
            ),
        ] {
            let filters = Filters::parse(filters).unwrap();
            let refused = Wanted::read(&filters).err().unwrap();
            assert_eq!(refused.message(), message);
        }
    }
}
