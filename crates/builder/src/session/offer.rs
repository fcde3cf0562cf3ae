//! What a client may offer.

use std::fmt;

/// A method of a client's services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Files of the client.
    ReadFiles,
    /// A place for a build's results.
    SendFiles,
    /// A stream that the client uploads.
    Upload,
    /// Names and passwords of registries.
    Credentials,
    /// A token of a registry, fetched by the client.
    FetchToken,
    /// The client's key for its tokens.
    TokenAuthority,
    /// A proof that the client has that key.
    VerifyTokenAuthority,
    /// A secret.
    Secret,
    /// Whether there is an ssh agent.
    CheckAgent,
    /// A connection to an ssh agent.
    ForwardAgent,
    /// What a store of the client's says of a blob.
    ContentInfo,
    /// A blob of a store of the client's.
    ContentRead,
    /// A blob for a store of the client's.
    ContentWrite,
    /// Whether the client still answers.
    Health,
}

impl Method {
    /// Path of the method as gRPC has it.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::ReadFiles => "/moby.filesync.v1.FileSync/DiffCopy",
            Self::SendFiles => "/moby.filesync.v1.FileSend/DiffCopy",
            Self::Upload => "/moby.upload.v1.Upload/Pull",
            Self::Credentials => "/moby.filesync.v1.Auth/Credentials",
            Self::FetchToken => "/moby.filesync.v1.Auth/FetchToken",
            Self::TokenAuthority => "/moby.filesync.v1.Auth/GetTokenAuthority",
            Self::VerifyTokenAuthority => "/moby.filesync.v1.Auth/VerifyTokenAuthority",
            Self::Secret => "/moby.buildkit.secrets.v1.Secrets/GetSecret",
            Self::CheckAgent => "/moby.sshforward.v1.SSH/CheckAgent",
            Self::ForwardAgent => "/moby.sshforward.v1.SSH/ForwardAgent",
            Self::ContentInfo => "/containerd.services.content.v1.Content/Info",
            Self::ContentRead => "/containerd.services.content.v1.Content/Read",
            Self::ContentWrite => "/containerd.services.content.v1.Content/Write",
            Self::Health => "/grpc.health.v1.Health/Check",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.path())
    }
}
