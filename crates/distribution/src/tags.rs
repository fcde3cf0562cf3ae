//! The tags of a repository.

use http::header::LINK;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;

use crate::answer::Answer;
use crate::client::Repository;
use crate::error::RegistryError;
use crate::location::join;

const PAGE_MAX: u64 = 4 << 20;
const PAGES_MAX: usize = 1000;
const TAGS_MAX: usize = 1_000_000;

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Repository {
    /// All tags, in the registry's order.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or has no such repository.
    pub async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        let mut all = Vec::new();
        let mut path = "tags/list?n=1000".to_owned();
        for _ in 0..PAGES_MAX {
            let answer = self.call(Method::GET, &path, HeaderMap::new()).await?;
            if answer.status != StatusCode::OK {
                return Err(self.refusal(answer, Self::unknown_repository).await);
            }
            let next = self.next_page(&answer);
            let misfit = answer.misfit("the answer is no list of tags");
            let body = answer.bytes("list of tags", PAGE_MAX).await?;
            let page: Page = serde_json::from_slice(&body).map_err(|_| misfit)?;
            all.extend(page.tags.unwrap_or_default());
            match next {
                Some(next) if all.len() < TAGS_MAX => path = next,
                _ => break,
            }
        }
        Ok(all)
    }

    /// The query of a `Link: </v2/x/tags/list?last=b&n=2>; rel="next"`; its host and path are the
    /// registry's word against ours, and are not followed.
    fn next_page(&self, answer: &Answer) -> Option<String> {
        let link = answer.header(LINK.as_str())?;
        let target = link.strip_prefix('<')?.split('>').next()?;
        let query = join(&answer.uri, target)?.query()?.to_owned();
        Some(format!("tags/list?{query}"))
    }
}
