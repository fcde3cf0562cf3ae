//! The frames of RFC 6455, section 5, as a server reads and writes them.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest payload of a control frame (section 5.5).
const CONTROL_MAX: usize = 125;
const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Data, of whichever type; bytes are bytes here.
    Data,
    /// The other side ends.
    Close,
    /// The other side asks for an answer.
    Ping,
    /// An answer.
    Pong,
}

/// The head of a frame that a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) length: u64,
    pub(super) mask: [u8; 4],
}

/// What frame is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Opcode {
    Text = 1,
    Binary = 2,
    Close = 8,
    Pong = 10,
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Reads a frame's head; none at the connection's end.
pub(super) async fn head(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Head>> {
    let mut two = [0; 2];
    if from.read(&mut two[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut two[1..]).await?;
    let [first, second] = two;
    if first & RESERVED != 0 {
        return Err(wrong("a frame uses an extension that was not agreed on"));
    }
    let kind = match first & 0x0f {
        0..=2 => Kind::Data,
        8 => Kind::Close,
        9 => Kind::Ping,
        10 => Kind::Pong,
        _ => return Err(wrong("a frame has an unknown type")),
    };
    if second & MASKED == 0 {
        return Err(wrong("a client's frame is not masked"));
    }
    let length = match second & !MASKED {
        126 => u64::from(from.read_u16().await?),
        127 => from.read_u64().await?,
        short => u64::from(short),
    };
    let is_short = usize::try_from(length).is_ok_and(|n| n <= CONTROL_MAX);
    if kind != Kind::Data && !(is_short && first & FINAL != 0) {
        return Err(wrong("a control frame is too long or not whole"));
    }
    let mut mask = [0; 4];
    from.read_exact(&mut mask).await?;
    Ok(Some(Head { kind, length, mask }))
}

/// Takes the mask off a piece of a payload that begins at `offset`.
pub(super) fn unmask(piece: &mut [u8], mask: [u8; 4], offset: u64) {
    let start = usize::try_from(offset % 4).unwrap_or(0);
    for (index, byte) in piece.iter_mut().enumerate() {
        *byte ^= mask[(start + index) % 4];
    }
}

/// Reads the payload of a control frame.
pub(super) async fn control(
    from: &mut (impl AsyncRead + Unpin),
    head: Head,
) -> io::Result<Vec<u8>> {
    let length = usize::try_from(head.length).unwrap_or(CONTROL_MAX);
    let mut payload = vec![0; length.min(CONTROL_MAX)];
    from.read_exact(&mut payload).await?;
    unmask(&mut payload, head.mask, 0);
    Ok(payload)
}

/// Writes a whole frame; a server's is not masked.
pub(super) async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    opcode: Opcode,
    payload: &[u8],
) -> io::Result<()> {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    frame.push(FINAL | opcode as u8);
    if let Some(short) = u8::try_from(payload.len()).ok().filter(|n| *n < 126) {
        frame.push(short);
    } else if let Ok(length) = u16::try_from(payload.len()) {
        frame.push(126);
        frame.extend_from_slice(&length.to_be_bytes());
    } else {
        let length = u64::try_from(payload.len()).map_err(io::Error::other)?;
        frame.push(127);
        frame.extend_from_slice(&length.to_be_bytes());
    }
    frame.extend_from_slice(payload);
    to.write_all(&frame).await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(bytes: &[u8]) -> String {
        head(&mut &*bytes).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn heads() {
        // RFC 6455, section 5.7: a masked "Hello"
        let bytes = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        let mut rest = &bytes[..];
        let found = head(&mut rest).await.unwrap().unwrap();
        assert_eq!((found.kind, found.length), (Kind::Data, 5));
        let mut payload = rest.to_vec();
        unmask(&mut payload[..2], found.mask, 0);
        unmask(&mut payload[2..], found.mask, 2);
        assert_eq!(payload, b"Hello");
        let mut long: &[u8] = &[0x82, 0xfe, 1, 0, 0, 0, 0, 0];
        assert_eq!(head(&mut long).await.unwrap().unwrap().length, 256);
        let mut longer: &[u8] = &[0x02, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(head(&mut longer).await.unwrap().unwrap().length, 65536);
        assert_eq!(head(&mut &b""[..]).await.unwrap(), None);
    }

    #[tokio::test]
    async fn wrong_frames() {
        for (bytes, words) in [
            (&[0x81, 0x05][..], "not masked"),
            (&[0xc1, 0x80, 0, 0, 0, 0], "extension"),
            (&[0x83, 0x80, 0, 0, 0, 0], "unknown type"),
            (&[0x89, 0xfe, 0, 126, 0, 0, 0, 0], "control frame"),
            (&[0x09, 0x80, 0, 0, 0, 0], "control frame"),
            (&[0x81], "eof"),
        ] {
            let error = refused(bytes).await;
            assert!(error.contains(words), "{error} lacks {words}");
        }
    }

    #[tokio::test]
    async fn written_frames() {
        let mut out = Vec::new();
        write(&mut out, Opcode::Binary, b"ab").await.unwrap();
        assert_eq!(out, [0x82, 2, b'a', b'b']);
        out.clear();
        write(&mut out, Opcode::Text, &[b'x'; 300]).await.unwrap();
        assert_eq!(out[..4], [0x81, 126, 1, 44]);
        out.clear();
        write(&mut out, Opcode::Binary, &vec![0; 70_000])
            .await
            .unwrap();
        assert_eq!(out[..10], [0x82, 127, 0, 0, 0, 0, 0, 1, 17, 112]);
    }
}
