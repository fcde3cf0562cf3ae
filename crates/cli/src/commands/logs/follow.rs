//! Following a log for as long as the container lives, whatever becomes of the engine meanwhile.
//!
//! Every record is asked for with its time. When the connection breaks, or ends while the container
//! runs, the next engine is asked for what comes behind the last record that was shown.

use std::time::{Duration, Instant};

use api::client::Response;
use api::container::Inspect;
use bytes::{Buf, BytesMut};

use super::{Wanted, container_path};
use crate::args::Call;
use crate::failure::Failure;
use crate::output;

/// How long no engine may answer.
const AWAY: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);
/// Stream and length before each record.
const HEADER: usize = 8;
/// No engine makes longer records.
const LONGEST: usize = 16 << 20;
const STDERR: u8 = 2;
const SYSTEM_ERROR: u8 = 3;

/// Goes on with an answer to `logs --follow` to the container's end.
pub(super) async fn follow(
    call: &Call,
    wanted: &Wanted<'_>,
    answer: Response,
) -> anyhow::Result<u8> {
    let mut records = Records {
        timestamps: wanted.timestamps,
        last: None,
    };
    let mut answer = Some(answer);
    let mut away_since: Option<Instant> = None;
    loop {
        if let Some(answer) = answer.take() {
            away_since = None;
            records.show(answer).await?;
        }
        match is_alive(call, wanted.name).await {
            Some(false) => return Ok(0),
            Some(true) => {
                let place = records.last.as_deref().map(behind).transpose()?;
                answer = wanted.ask(call, place.as_deref()).await.ok();
            }
            None => {}
        }
        if answer.is_none() {
            let since = away_since.get_or_insert_with(Instant::now);
            if since.elapsed() > AWAY {
                return Err(
                    Failure::message("the engine has ended, and none came after it").into(),
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Whether more can come of a container; `None` when no engine answers.
async fn is_alive(call: &Call, name: &str) -> Option<bool> {
    let request = call.client.get(&container_path(name, "/json"));
    match request.fetch::<Inspect>().await {
        Ok(inspect) => Some(inspect.state.is_some_and(|state| state.running)),
        Err(api::client::ClientError::Response { .. }) => Some(false),
        Err(_) => None,
    }
}

/// The first time behind a record's, as the API takes it.
fn behind(time: &str) -> anyhow::Result<String> {
    let time: jiff::Timestamp = time.parse()?;
    let next = time.checked_add(jiff::SignedDuration::from_nanos(1))?;
    Ok(format!(
        "{}.{:09}",
        next.as_second(),
        next.subsec_nanosecond()
    ))
}

/// Shows records, and knows the time of the last one.
struct Records {
    timestamps: bool,
    last: Option<String>,
}

impl Records {
    /// Shows an answer to its end; a connection that breaks is an end, too.
    async fn show(&mut self, mut answer: Response) -> anyhow::Result<()> {
        let mut buffer = BytesMut::new();
        while let Ok(Some(chunk)) = answer.chunk().await {
            buffer.extend_from_slice(&chunk);
            self.show_whole(&mut buffer)?;
        }
        Ok(())
    }

    /// Shows the whole records of a buffer; what comes together on one stream is written at once.
    fn show_whole(&mut self, buffer: &mut BytesMut) -> anyhow::Result<()> {
        let mut out = Vec::new();
        let mut stream = 0;
        while let Some(header) = buffer.first_chunk::<HEADER>() {
            let [kind, _, _, _, a, b, c, d] = *header;
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d]))?;
            if length > LONGEST {
                return Err(Failure::message("the engine's log stream makes no sense").into());
            }
            if buffer.len() < HEADER + length {
                break;
            }
            buffer.advance(HEADER);
            let record = buffer.split_to(length);
            if kind == SYSTEM_ERROR {
                let text = String::from_utf8_lossy(&record).into_owned();
                let message = format!("Error response from daemon: {}", text.trim_end());
                return Err(Failure::message(message).into());
            }
            if kind != stream {
                write(stream, &out)?;
                out.clear();
                stream = kind;
            }
            out.extend_from_slice(self.text(&record));
        }
        write(stream, &out)
    }

    /// What is shown of a record.
    fn text<'a>(&mut self, record: &'a [u8]) -> &'a [u8] {
        let Some(space) = record.iter().position(|byte| *byte == b' ') else {
            return record;
        };
        self.last = std::str::from_utf8(&record[..space])
            .ok()
            .map(str::to_owned);
        if self.timestamps {
            record
        } else {
            &record[space + 1..]
        }
    }
}

fn write(stream: u8, text: &[u8]) -> anyhow::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    if stream == STDERR {
        output::raw_error(text)?;
    } else {
        output::raw(text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_behind_a_record() {
        assert_eq!(
            behind("2026-01-01T00:00:00.999999999Z").unwrap(),
            "1767225601.000000000"
        );
        assert!(behind("x").is_err());
    }

    #[test]
    fn times_are_cut_off_unless_asked_for() {
        let mut records = Records {
            timestamps: false,
            last: None,
        };
        assert_eq!(records.text(b"2026-01-01T00:00:00Z a b\n"), b"a b\n");
        assert_eq!(records.last.as_deref(), Some("2026-01-01T00:00:00Z"));
        records.timestamps = true;
        assert_eq!(records.text(b"T a"), b"T a");
    }
}
