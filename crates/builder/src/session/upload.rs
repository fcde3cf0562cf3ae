//! A stream that the client uploads: a context on its standard input.

use bollard_buildkit_proto::moby::upload::v1::BytesMessage;
use bollard_buildkit_proto::moby::upload::v1::upload_client::UploadClient;
use tokio_stream::pending;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Streaming};

use super::sync::MAX_MESSAGE;
use super::{Method, Session, SessionError, SessionResult};

/// A stream that the client uploads.
#[derive(Debug)]
pub struct Uploaded(Streaming<BytesMessage>);

impl Uploaded {
    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// When the client breaks off.
    pub async fn next(&mut self) -> SessionResult<Option<Vec<u8>>> {
        let message = self.0.message().await;
        let message = message.map_err(SessionError::call(Method::Upload))?;
        Ok(message.map(|message| message.data))
    }
}

impl Session {
    /// Opens what the client offers under a path.
    ///
    /// # Errors
    /// When it offers none or is gone.
    pub async fn upload(&self, path: &str) -> SessionResult<Uploaded> {
        let method = self.offered(Method::Upload)?;
        // the client sends until it has no more, and reads nothing
        let mut call = Request::new(pending::<BytesMessage>());
        let head = call.metadata_mut();
        if let Ok(path) = MetadataValue::<Ascii>::try_from(path) {
            head.insert("urlpath", path);
        }
        head.insert("urlhost", MetadataValue::from_static("buildkit-session"));
        let mut client = UploadClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE);
        let answer = client.pull(call).await;
        let stream = answer.map_err(SessionError::call(method))?.into_inner();
        Ok(Uploaded(stream))
    }
}
