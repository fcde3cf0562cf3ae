//! The last records of a log.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::chain::Source;
use crate::format::{Format, Found};
use crate::local;

/// How much is read at once.
const READ: usize = 64 << 10;

/// Moves the files' places so that `wanted` records are left, and drops the files before them. Gives
/// the place in the first file.
pub(crate) fn keep_last(
    sources: &mut VecDeque<Source>,
    format: Format,
    wanted: u64,
) -> io::Result<u64> {
    let mut left = wanted;
    for index in (0..sources.len()).rev() {
        let (place, found) = last(&mut sources[index], format, left)?;
        left -= found.min(left);
        if left == 0 {
            sources.drain(..index);
            sources[0].seek(place)?;
            return Ok(place);
        }
    }
    if let Some(first) = sources.front_mut() {
        first.seek(0)?;
    }
    Ok(0)
}

/// The place of the last so many records of a file, and how many it has of them.
fn last(source: &mut Source, format: Format, wanted: u64) -> io::Result<(u64, u64)> {
    let length = source.length()?;
    let Some(file) = source.plain() else {
        return forward(source, format, wanted);
    };
    if wanted == 0 {
        // not behind a record that is just being written
        return Ok((length, 0));
    }
    match format {
        Format::Json => last_lines(file, length, wanted),
        Format::Local => match last_frames(file, length, wanted) {
            Some(found) => Ok(found),
            None => forward(source, format, wanted),
        },
    }
}

fn last_lines(file: &File, length: u64, wanted: u64) -> io::Result<(u64, u64)> {
    let mut end = length;
    let mut buffer = vec![0; READ];
    let mut found = 0;
    while end > 0 {
        let count = usize::try_from(end).map_or(READ, |end| end.min(READ));
        let start = end - count as u64;
        file.read_exact_at(&mut buffer[..count], start)?;
        for index in memchr::memrchr_iter(b'\n', &buffer[..count]) {
            if found == wanted {
                return Ok((start + index as u64 + 1, found));
            }
            found += 1;
        }
        end = start;
    }
    Ok((0, found))
}

/// Goes back from record to record; `None` where the file does not end with a whole one.
fn last_frames(file: &File, length: u64, wanted: u64) -> Option<(u64, u64)> {
    let mut start = length;
    let mut found = 0;
    while start > 0 && found < wanted {
        let mut bytes = [0; local::FRAME];
        let frame = bytes.len() as u64;
        file.read_exact_at(&mut bytes, start.checked_sub(frame)?)
            .ok()?;
        let length = u64::from(u32::from_be_bytes(bytes));
        let head = start.checked_sub(length + 2 * frame)?;
        let tail = bytes;
        file.read_exact_at(&mut bytes, head).ok()?;
        if bytes != tail {
            return None;
        }
        start = head;
        found += 1;
    }
    Some((start, found))
}

/// Finds the place by going through the file from its start.
fn forward(source: &mut Source, format: Format, wanted: u64) -> io::Result<(u64, u64)> {
    source.seek(0)?;
    // the places of the last records; a very long tail is one of whole files
    let mut places = VecDeque::new();
    let mut bytes = Vec::new();
    let mut done = 0;
    let mut chunk = vec![0; READ];
    loop {
        let count = source.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&chunk[..count]);
        let mut start = 0;
        while let Found::Whole(length) = format.find(&bytes[start..]) {
            if places.len() as u64 == wanted {
                places.pop_front();
            }
            places.push_back(done + start as u64);
            start += length;
        }
        if format.find(&bytes[start..]) == Found::Broken {
            break;
        }
        bytes.drain(..start);
        done += start as u64;
    }
    source.seek(0)?;
    let first = places.front().copied();
    if wanted == 0 {
        return Ok((done, 0));
    }
    Ok((first.unwrap_or(0), places.len() as u64))
}
