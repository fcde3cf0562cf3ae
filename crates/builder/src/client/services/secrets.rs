//! Secrets, read when a step asks for them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::Secrets;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use tonic::{Request, Response, Status};

/// BuildKit's limit for a secret, bytes.
const MAX_SECRET: u64 = 500 * 1024;

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A file.
    File(PathBuf),
    /// A variable of the environment.
    Env(String),
}

impl SecretSource {
    fn read(&self) -> io::Result<Vec<u8>> {
        match self {
            Self::Env(name) => std::env::var_os(name)
                .map(std::os::unix::ffi::OsStringExt::into_vec)
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)),
            Self::File(path) => {
                let mut bytes = Vec::new();
                File::open(path)?
                    .take(MAX_SECRET + 1)
                    .read_to_end(&mut bytes)?;
                if bytes.len() as u64 > MAX_SECRET {
                    return Err(io::Error::other("invalid secret size, at most 500KB"));
                }
                Ok(bytes)
            }
        }
    }
}

#[derive(Clone)]
pub(super) struct SecretService {
    pub(super) secrets: BTreeMap<String, SecretSource>,
}

#[tonic::async_trait]
impl Secrets for SecretService {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        let missing = || Status::not_found(format!("secret {id}: not found"));
        let source = self.secrets.get(&id).cloned().ok_or_else(missing)?;
        let read = tokio::task::spawn_blocking(move || source.read()).await;
        let data = match read {
            Ok(Ok(data)) => data,
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            Ok(Err(error)) => return Err(Status::internal(format!("secret {id}: {error}"))),
            Err(_) => return Err(Status::internal(format!("secret {id}: reading broke off"))),
        };
        Ok(Response::new(GetSecretResponse { data }))
    }
}
