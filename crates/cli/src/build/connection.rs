//! The two connections of a build: one for requests to the engine, one for its requests to the client.

use api::client::Client;
use builder::client::{Offer, Stream};

/// A name that nobody else uses.
pub(crate) fn id() -> String {
    let mut bytes = [0_u8; 16];
    // the kernel's generator fails only before it is seeded, at boot
    if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).is_err() {
        let now = jiff::Timestamp::now().as_nanosecond();
        bytes.copy_from_slice(&now.to_be_bytes());
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A connection for requests.
pub(crate) async fn control(client: &Client) -> anyhow::Result<Stream> {
    let hijacked = client.post("/grpc").upgrade("h2c").await?;
    Ok(Stream::new(hijacked))
}

/// A connection for what the engine asks.
pub(crate) async fn session(client: &Client, offer: &Offer) -> anyhow::Result<Stream> {
    let mut request = client.post("/session");
    for (name, value) in offer.headers() {
        request = request.header_named(&name, value)?;
    }
    Ok(Stream::new(request.upgrade("h2c").await?))
}
