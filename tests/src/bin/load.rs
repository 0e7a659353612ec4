//! A load generator with a fixed schedule: request `n` is due at `n / rate`, and its latency counts from then, so that a
//! gateway which stalls pays for every request it kept waiting. Without a rate it sends as fast as answers come.
//!
//! `load --url http://HOST:PORT/PATH --requests N [--rate N] [--connections N] [--header 'Name: value'] [--body TEXT]`
//! prints one line of JSON, times in microseconds.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the result is one line on standard output")]

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

/// What to send, to whom and how often.
struct Plan {
    address: String,
    request: Vec<u8>,
    requests: u64,
    rate: Option<f64>,
    connections: usize,
}

/// What has been seen.
#[derive(Default)]
struct Seen {
    latencies: Vec<Duration>,
    failures: u64,
}

/// The request that a connection waits for.
#[derive(Default)]
struct Exchange {
    due: Option<Instant>,
    answer: Vec<u8>,
}

fn main() -> ExitCode {
    let plan = match plan(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(problem) => {
            eprintln!("load: {problem}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    match run(&plan, started) {
        Ok(seen) => println!("{}", report(&plan, seen, started.elapsed())),
        Err(problem) => {
            eprintln!("load: {problem}");
            return ExitCode::FAILURE;
        }
    }
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

/// One thread for all connections, so that the generator itself takes little of the machine that it measures.
fn run(plan: &Plan, started: Instant) -> io::Result<Seen> {
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let streams = (0..plan.connections).map(|_| connect(&plan.address)).collect::<io::Result<Vec<_>>>()?;
    let mut exchanges: Vec<_> = streams.iter().map(|_| Exchange::default()).collect();
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (index, stream) in streams.iter().enumerate() {
        epoll::add(&epoll, stream, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
    }
    let mut ready = Vec::with_capacity(streams.len());
    let mut free: VecDeque<usize> = (0..streams.len()).collect();
    let mut seen = Seen::default();
    let mut sent = 0;
    let due = |n: u64| plan.rate.map(|rate| started + Duration::from_secs_f64(n as f64 / rate));
    loop {
        let now = Instant::now();
        while sent < plan.requests
            && due(sent).is_none_or(|due| due <= now)
            && let Some(index) = free.pop_front()
        {
            (&streams[index]).write_all(&plan.request)?;
            exchanges[index].due = Some(due(sent).unwrap_or_else(Instant::now));
            sent += 1;
        }
        if free.len() == streams.len() && sent == plan.requests {
            return Ok(seen);
        }
        let next = due(sent).filter(|_| sent < plan.requests && !free.is_empty());
        let wait = next.map(|due| due.saturating_duration_since(Instant::now()));
        epoll::wait(&epoll, spare_capacity(&mut ready), wait.and_then(|wait| Timespec::try_from(wait).ok()).as_ref())?;
        for event in ready.drain(..) {
            let index = event.data.u64() as usize;
            let exchange = &mut exchanges[index];
            let Some(status) = read(&streams[index], &mut exchange.answer)? else { continue };
            exchange.answer.clear();
            match (exchange.due.take(), status) {
                (Some(due), 200) => seen.latencies.push(due.elapsed()),
                _ => seen.failures += 1,
            }
            free.push_back(index);
        }
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Reads what is there; gives the status when the answer is complete.
fn read(mut stream: &TcpStream, answer: &mut Vec<u8>) -> io::Result<Option<u16>> {
    let filled = answer.len();
    answer.resize(filled + 4096, 0);
    let outcome = stream.read(&mut answer[filled..]);
    answer.truncate(filled + outcome.as_ref().copied().unwrap_or(0));
    match outcome {
        Ok(0) => Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed a connection")),
        Ok(_) => status(answer),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// The status of an answer, or None while some of it is missing.
fn status(answer: &[u8]) -> io::Result<Option<u16>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(answer).map_err(broken)? else { return Ok(None) };
    let body = &answer[length..];
    let header = |name: &str| head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let complete = match header("content-length") {
        Some(length) => Some(body.len()) == std::str::from_utf8(length.value).ok().and_then(|text| text.parse().ok()),
        None => all_chunks(body)?,
    };
    Ok(head.code.filter(|_| complete))
}

/// Whether a chunked body has come to its end (RFC 9112, 7.1).
fn all_chunks(mut body: &[u8]) -> io::Result<bool> {
    loop {
        let httparse::Status::Complete((start, size)) =
            httparse::parse_chunk_size(body).map_err(|_| io::Error::from(ErrorKind::InvalidData))?
        else {
            return Ok(false);
        };
        let Some(rest) = body.get(start + size as usize + 2..) else { return Ok(false) };
        if size == 0 {
            return Ok(true);
        }
        body = rest;
    }
}

fn broken(error: httparse::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

fn report(plan: &Plan, Seen { mut latencies, failures }: Seen, elapsed: Duration) -> String {
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
    fn an_answer_is_complete_with_its_last_byte() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".as_slice();
        let chunked =
            b"HTTP/1.1 429 Too Many Requests\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n".as_slice();

        for (answer, expected) in [(whole, 200), (chunked, 429)] {
            assert_eq!(status(answer).unwrap(), Some(expected));
            assert!((0..answer.len()).all(|length| status(&answer[..length]).unwrap().is_none()));
        }
        assert!(status(b"SMTP ready").is_err());
    }

    #[test]
    fn a_missing_number_of_requests_is_refused() {
        let arguments = ["--url".to_owned(), "http://127.0.0.1:1/x".to_owned()];

        assert!(plan(arguments.into_iter()).is_err_and(|problem| problem.contains("--requests")));
    }
}
