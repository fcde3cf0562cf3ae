//! Secrets.

use bollard_buildkit_proto::moby::buildkit::secrets::v1::GetSecretRequest;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_client::SecretsClient;
use zeroize::Zeroizing;

use super::{Method, Session, SessionError, SessionResult};

/// The largest secret, as BuildKit has it.
const MAX_SECRET: usize = 500 << 10;

impl Session {
    /// Asks for a secret; none where the client has none of this name.
    ///
    /// # Errors
    /// When the client refuses, sends too much or is gone.
    pub async fn secret(&self, id: &str) -> SessionResult<Option<Zeroizing<Vec<u8>>>> {
        let method = Method::Secret;
        if !self.supports(method) {
            return Ok(None);
        }
        let request = GetSecretRequest {
            id: id.to_owned(),
            ..GetSecretRequest::default()
        };
        let asked = SecretsClient::new(self.channel()).get_secret(request).await;
        let data = match asked.map_err(SessionError::call(method)) {
            Ok(answer) => Zeroizing::new(answer.into_inner().data),
            Err(error) if error.is_not_found() || error.is_unsupported() => return Ok(None),
            Err(error) => return Err(error),
        };
        if data.len() > MAX_SECRET {
            return Err(SessionError::TooLarge {
                method,
                limit: MAX_SECRET,
            });
        }
        Ok(Some(data))
    }
}
