//! A load generator with a fixed schedule: request `n` is due at `n / rate`, and its latency counts from then, so that a
//! gateway which stalls pays for every request it kept waiting. Without a rate it sends as fast as answers come.
//!
//! `load --url http://HOST:PORT/PATH --requests N [--rate N] [--connections N] [--header 'Name: value'] [--body TEXT]`
//! prints one line of JSON, times in microseconds.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the result is one line on standard output")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What to send, to whom and how often.
struct Plan {
    address: String,
    request: Vec<u8>,
    requests: u64,
    rate: Option<f64>,
    connections: usize,
}

/// What one connection has seen.
#[derive(Default)]
struct Seen {
    latencies: Vec<Duration>,
    failures: u64,
}

fn main() -> ExitCode {
    let plan = match plan(std::env::args().skip(1)) {
        Ok(plan) => Arc::new(plan),
        Err(problem) => {
            eprintln!("load: {problem}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    let seen = run(&plan, started);
    println!("{}", report(&plan, seen, started.elapsed()));
    ExitCode::SUCCESS
}

fn plan(mut arguments: impl Iterator<Item = String>) -> Result<Plan, String> {
    let (mut url, mut requests, mut rate, mut connections) = (None, None, None, 16);
    let (mut headers, mut body) = (String::new(), String::new());
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--url" => url = Some(value),
            "--requests" => requests = Some(number(&name, &value)?),
            "--rate" => rate = Some(number(&name, &value)?),
            "--connections" => connections = number(&name, &value)?,
            "--header" => headers += &format!("{value}\r\n"),
            "--body" => body = value,
            _ => return Err(format!("unknown option {name}")),
        }
    }
    let url = url.ok_or("--url is missing")?;
    let rest = url.strip_prefix("http://").ok_or("--url must begin with http://")?;
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    let length = body.len();
    let request = format!(
        "POST /{path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    let requests = requests.ok_or("--requests is missing")?;
    Ok(Plan { address: address.to_owned(), request: request.into_bytes(), requests, rate, connections })
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} must be a number, not {value}"))
}

fn run(plan: &Arc<Plan>, started: Instant) -> Vec<Seen> {
    let next = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..plan.connections)
        .map(|_| {
            let (plan, next) = (Arc::clone(plan), Arc::clone(&next));
            thread::spawn(move || send(&plan, &next, started))
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
}

/// Takes the next number, waits until it is due, sends it, until none is left.
fn send(plan: &Plan, next: &AtomicU64, started: Instant) -> Seen {
    let mut seen = Seen::default();
    let mut connection: Option<BufReader<TcpStream>> = None;
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= plan.requests {
            return seen;
        }
        let due = match plan.rate {
            Some(rate) => started + Duration::from_secs_f64(n as f64 / rate),
            None => Instant::now(),
        };
        thread::sleep(due.saturating_duration_since(Instant::now()));
        match exchange(plan, &mut connection) {
            Ok(200) => seen.latencies.push(due.elapsed()),
            Ok(_) => seen.failures += 1,
            Err(_) => {
                connection = None;
                seen.failures += 1;
            }
        }
    }
}

/// One request and its whole answer; gives the status.
fn exchange(plan: &Plan, connection: &mut Option<BufReader<TcpStream>>) -> io::Result<u16> {
    let stream = match connection {
        Some(stream) => stream,
        None => connection.insert(connect(&plan.address)?),
    };
    stream.get_mut().write_all(&plan.request)?;
    let mut line = Vec::with_capacity(256);
    let status = next_line(stream, &mut line)?.get(9..12).and_then(|text| text.parse().ok()).ok_or_else(broken)?;
    let (mut length, mut chunked) = (0_usize, false);
    loop {
        let header = next_line(stream, &mut line)?.to_ascii_lowercase();
        match header.split_once(':') {
            Some(("content-length", value)) => length = value.trim().parse().map_err(|_| broken())?,
            Some(("transfer-encoding", value)) => chunked = value.trim() == "chunked",
            Some(_) => {}
            None => break,
        }
    }
    if !chunked {
        skip(stream, length)?;
        return Ok(status);
    }
    loop {
        let size = usize::from_str_radix(next_line(stream, &mut line)?, 16).map_err(|_| broken())?;
        skip(stream, size + 2)?;
        if size == 0 {
            return Ok(status);
        }
    }
}

fn connect(address: &str) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(BufReader::with_capacity(16 * 1024, stream))
}

fn next_line<'l>(stream: &mut BufReader<TcpStream>, line: &'l mut Vec<u8>) -> io::Result<&'l str> {
    line.clear();
    stream.read_until(b'\n', line)?;
    let text = line.strip_suffix(b"\r\n").ok_or_else(broken)?;
    std::str::from_utf8(text).map_err(|_| broken())
}

fn skip(stream: &mut BufReader<TcpStream>, length: usize) -> io::Result<()> {
    let copied = io::copy(&mut stream.take(length as u64), &mut io::sink())?;
    if copied == length as u64 { Ok(()) } else { Err(broken()) }
}

fn broken() -> io::Error {
    io::Error::from(io::ErrorKind::InvalidData)
}

fn report(plan: &Plan, seen: Vec<Seen>, elapsed: Duration) -> String {
    let failures: u64 = seen.iter().map(|connection| connection.failures).sum();
    let mut latencies: Vec<Duration> = seen.into_iter().flat_map(|connection| connection.latencies).collect();
    latencies.sort_unstable();
    let at = |share| micros(percentile(&latencies, share));
    format!(
        r#"{{"asked_rate":{},"rate":{:.1},"answers":{},"failures":{failures},"seconds":{:.3},"p50":{:.1},"p90":{:.1},"p99":{:.1},"p999":{:.1},"max":{:.1}}}"#,
        plan.rate.unwrap_or(0.0),
        latencies.len() as f64 / elapsed.as_secs_f64(),
        latencies.len(),
        elapsed.as_secs_f64(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0),
    )
}

/// The smallest latency that `share` of all requests did not exceed.
fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks() {
        let sorted: Vec<Duration> = (1..=100).map(Duration::from_micros).collect();

        assert_eq!(percentile(&sorted, 0.5), Duration::from_micros(50));
        assert_eq!(percentile(&sorted, 0.99), Duration::from_micros(99));
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
    }

    #[test]
    fn a_missing_number_of_requests_is_refused() {
        let arguments = ["--url".to_owned(), "http://127.0.0.1:1/x".to_owned()];

        assert!(plan(arguments.into_iter()).is_err_and(|problem| problem.contains("--requests")));
    }
}
