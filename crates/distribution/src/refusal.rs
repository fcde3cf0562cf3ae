//! What it means when a registry refuses something of a repository, in Docker's words.

use http::StatusCode;

use crate::answer::{Answer, Complaint, too_many};
use crate::challenge::lacks_scope;
use crate::client::Repository;
use crate::error::RegistryError;
use crate::location::shown;

impl Repository {
    /// The error of an unwelcome answer. `missing` makes it where the thing is not there.
    pub(crate) async fn refusal(
        &self,
        answer: Answer,
        missing: impl FnOnce(&Self, Complaint) -> RegistryError,
    ) -> RegistryError {
        // Another host, behind a redirect, knows nothing of repositories.
        if answer.elsewhere {
            return answer.into_error().await;
        }
        let (status, method, url) = (answer.status, answer.method, shown(&answer.uri));
        let headers = answer.headers.clone();
        let lacks_scope = lacks_scope(&answer.headers);
        match status {
            StatusCode::NOT_FOUND => missing(self, answer.complaint().await),
            StatusCode::TOO_MANY_REQUESTS => too_many(&answer.complaint().await, &headers),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let complaint = answer.complaint().await;
                if lacks_scope || complaint.code == "DENIED" || status == StatusCode::FORBIDDEN {
                    return self.denied(complaint, lacks_scope);
                }
                RegistryError::Unauthorized {
                    method,
                    url,
                    detail: complaint.without_code("authentication required"),
                }
            }
            _ => answer.into_error().await,
        }
    }

    /// Docker's own text stands where the token lacks the scope: the body then says only that
    /// authentication is required.
    fn denied(&self, complaint: Complaint, lacks_scope: bool) -> RegistryError {
        const DENIED: &str = "denied: requested access to the resource is denied";
        let own = Some(complaint.text).filter(|text| !text.is_empty() && !lacks_scope);
        RegistryError::AccessDenied {
            name: self.reference.familiar_name(),
            detail: own.unwrap_or_else(|| DENIED.to_owned()),
        }
    }

    pub(crate) fn unknown_repository(&self, complaint: Complaint) -> RegistryError {
        RegistryError::RepositoryUnknown {
            name: self.reference.familiar_name(),
            detail: complaint.text_or("name unknown: repository name not known to registry"),
        }
    }
}
