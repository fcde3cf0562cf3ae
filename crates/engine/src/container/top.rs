//! The processes of a container, as `ps` shows them.

use api::container::TopResponse;
use shim::{Reply, Request};

use super::Status;
use crate::engine::Engine;
use crate::error::{Error, Result, Step};

const DEFAULT: &str = "-ef";
/// What `ps -ef` shows.
const TITLES: [&str; 8] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
/// The longest output of the host's `ps` that is read, bytes.
const OUTPUT_MAX: usize = 4 << 20;

impl Engine {
    /// Lists a container's processes.
    ///
    /// # Errors
    /// When the container does not run, or `ps` refuses its arguments.
    pub async fn container_top(&self, name: &str, arguments: &str) -> Result<TopResponse> {
        let container = self.containers.get(name)?;
        match container.status() {
            Status::Running | Status::Paused => {}
            Status::Restarting => {
                return Err(Error::conflict(format!(
                    "Container {} is restarting, wait until the container is running",
                    container.id
                )));
            }
            _ => {
                return Err(Error::conflict(format!(
                    "container {} is not running",
                    container.id
                )));
            }
        }
        let reply = self.ask_running(&container, &Request::Processes).await?;
        let Reply::Processes(pids) = reply else {
            return Err(Error::internal(format!(
                "list processes: unexpected answer {reply:?}"
            )));
        };
        let response = if arguments.is_empty() || arguments == DEFAULT {
            TopResponse {
                titles: Some(TITLES.iter().map(|&t| t.to_owned()).collect()),
                processes: Some(pids.iter().filter_map(|pid| row(*pid)).collect()),
            }
        } else {
            parse(&host_ps(arguments).await?, &pids)?
        };
        self.container_event("top", &container, &[]);
        Ok(response)
    }
}

/// One row of `ps -ef`; none when the process has ended meanwhile.
fn row(pid: i32) -> Option<Vec<String>> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    let stat = read("stat")?;
    // the name in parentheses may hold anything, spaces and parentheses too (proc_pid_stat(5))
    let (head, tail) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    let number = |index: usize| {
        fields
            .get(index)
            .and_then(|f| f.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let status = read("status")?;
    let uid = status
        .lines()
        .find_map(|l| l.strip_prefix("Uid:"))?
        .split_ascii_whitespace()
        .nth(1)?
        .to_owned();
    let command = read("cmdline")
        .map(|c| c.trim_end_matches('\0').replace('\0', " "))
        .filter(|c| !c.is_empty());
    let command = command.or_else(|| head.split_once('(').map(|(_, name)| format!("[{name}]")))?;
    let ticks = rustix::param::clock_ticks_per_second();
    let seconds = (number(11) + number(12)) / ticks;
    Some(vec![
        if uid == "0" { "root".to_owned() } else { uid },
        pid.to_string(),
        fields.get(1)?.to_string(),
        "0".to_owned(),
        start_time(number(19) / ticks),
        terminal(number(4)),
        format!(
            "{:02}:{:02}:{:02}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        ),
        command,
    ])
}

/// The hour and minute of a start that many seconds after boot.
fn start_time(after_boot: u64) -> String {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let uptime: f64 = uptime
        .split_ascii_whitespace()
        .next()
        .and_then(|t| t.parse().ok())
        .unwrap_or(0.0);
    let now = jiff::Timestamp::now().as_second();
    #[expect(clippy::cast_possible_truncation, reason = "seconds since boot")]
    let age = uptime as i64 - i64::try_from(after_boot).unwrap_or(0);
    let minutes = (now - age).rem_euclid(86400) / 60;
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// A terminal's name from its device number as `stat` encodes it.
fn terminal(device: u64) -> String {
    let (major, minor) = (
        (device >> 8) & 0xfff,
        (device & 0xff) | ((device >> 12) & 0xfff00),
    );
    if (136..144).contains(&major) {
        format!("pts/{minor}")
    } else {
        "?".to_owned()
    }
}

async fn host_ps(arguments: &str) -> Result<String> {
    let words: Vec<&str> = arguments.split_ascii_whitespace().collect();
    let output = tokio::process::Command::new("ps")
        .args(&words)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .step(|| format!("run ps {arguments} on the host"))?;
    if !output.status.success() {
        // the first line says what is wrong, the others how it is used
        let text = String::from_utf8_lossy(&output.stderr);
        let why = text.trim().lines().next().unwrap_or_default();
        let why = why.strip_prefix("error: ").unwrap_or(why);
        return Err(Error::invalid(format!("ps: error: {why}")));
    }
    let length = output.stdout.len().min(OUTPUT_MAX);
    Ok(String::from_utf8_lossy(&output.stdout[..length]).into_owned())
}

/// The rows of `ps`' output that are the container's.
fn parse(output: &str, pids: &[i32]) -> Result<TopResponse> {
    let mut lines = output.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .map(str::to_owned)
        .collect();
    let column = titles
        .iter()
        .position(|t| t == "PID")
        .ok_or_else(|| Error::invalid("Couldn't find PID field in ps output"))?;
    let last = titles.len().saturating_sub(1);
    let mut processes = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let pid = words.get(column).and_then(|w| w.parse().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            let mut row: Vec<String> = words.iter().take(last).map(|&w| w.to_owned()).collect();
            // the last column is the command with its spaces
            row.push(words.get(last..).unwrap_or_default().join(" "));
            processes.push(row);
        }
    }
    Ok(TopResponse {
        titles: Some(titles),
        processes: Some(processes).filter(|rows| !rows.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_row_has_all_columns() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let row = row(pid).unwrap();
        assert_eq!(row.len(), TITLES.len());
        assert_eq!(row[1], pid.to_string());
    }

    #[test]
    fn keeps_only_the_containers_rows() {
        let top = parse("PID CMD\n1 init x\n7 sleep 9 \n", &[7]).unwrap();
        assert_eq!(top.processes.unwrap(), [["7", "sleep 9"]]);
        assert!(parse("A B\n", &[]).is_err());
    }
}
