//! `manifold bus`: how far events have been read, what was given up, and whether everything adds up. Works beside a running
//! server, and without one.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use manifold_bus::{
    Broker, Buried, Finding, Job, JobFilter, Source, State, Which, all_jobs, cursors, dead_letters, outbox_status,
    redrive, verify,
};
use manifold_core::{Clock, Code, Error, PageRequest, Result, decode_id, encode_id};
use manifold_runtime::Tasks;
use manifold_store::{Db, Location, WriterConfig};

use crate::command::db::databases;
use crate::config::Config;
use crate::{node, output};

/// What stands before the id of a dead letter.
const LETTER: &str = "dl";

/// `manifold bus …`
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Which way events go, and how many are where
    Status,
    /// How far each consumer has read
    Consumers,
    /// What was given up and not sent again, the oldest first
    DeadLetters {
        #[command(flatten)]
        which: Letters,
    },
    /// Jobs of all services, the newest first
    Jobs {
        /// Only of this kind
        #[arg(long, value_name = "NAME")]
        kind: Option<String>,
        /// Only queued, running, succeeded, dead or canceled ones
        #[arg(long, value_parser = state)]
        state: Option<State>,
        /// At most so many of each service
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=200))]
        limit: u32,
    },
    /// Send dead letters again, each to the consumer that gave it up; queue dead jobs again
    Redrive {
        #[command(flatten)]
        which: Letters,
        /// Only say which
        #[arg(long)]
        dry_run: bool,
    },
    /// Look for what does not add up and say how to mend it
    Verify,
}

/// Which dead letters.
#[derive(Args, Clone, Debug)]
pub struct Letters {
    /// Only this one, `dl_…`
    #[arg(long)]
    id: Option<String>,
    /// Only of this consumer, or of jobs of this kind
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
}

impl Letters {
    fn which(&self) -> Result<Which> {
        let read = |id: &String| {
            decode_id(LETTER, id)
                .ok_or_else(|| Error::invalid("INVALID_ARGUMENT", format!("{id} is not the id of a dead letter")))
        };
        let id = self.id.as_ref().map(read).transpose()?;
        Ok(Which { id, consumer: self.consumer.clone(), limit: i64::from(self.limit) })
    }
}

/// Goes through the databases of all services.
pub async fn run(config: Config, command: Command) -> Result<ExitCode> {
    let location = Location::parse(&config.store.url, &config.data_dir)?;
    let mut rows = vec![match &command {
        Command::Status => heading(&["WHERE", "EVENTS", "WAITING", "SINCE", "BYTES"]),
        Command::Consumers => heading(&["CONSUMER", "SOURCE", "EVENT", "BEHIND", "WAITING"]),
        Command::Jobs { .. } => heading(&["ID", "KIND", "STATE", "ATTEMPTS", "DONE", "TENANT", "ERROR"]),
        _ => heading(&["ID", "CONSUMER", "REASON", "OF", "TENANT", "COUNT", "LAST", "ERROR"]),
    }];
    let mut opened = Vec::new();
    let writers = Tasks::new();
    for (service, migrations) in databases() {
        let migrations = [&manifold_bus::migrations(), &migrations];
        if !Db::pending(&location, service, &migrations).await?.is_empty() {
            let message = format!("the database of {service} lacks tables of this version: run `manifold db migrate`");
            return Err(Error::new(Code::Precondition, "FAILED_PRECONDITION", message));
        }
        let (db, writer) = Db::open(&location, service, &migrations, &WriterConfig::default()).await?;
        let stop = writers.token();
        writers.spawn("store writer", writer.run(async move { stop.cancelled().await }));
        opened.push((service, db));
    }
    if matches!(command, Command::Verify) {
        let ledgers: Vec<_> = opened.into_iter().map(|(name, db)| Source { name, db }).collect();
        let broker = node::find_broker(&config).await?;
        let findings = verify(&ledgers, broker.as_ref(), &Clock::system()).await?;
        writers.shutdown(std::time::Duration::from_secs(10)).await;
        return Ok(report(&findings));
    }
    for (service, db) in &opened {
        match &command {
            Command::Verify => {}
            Command::Status => {
                let outbox = outbox_status(db).await?;
                let since = outbox.waiting_since.map_or_else(|| "-".to_owned(), |since| since.to_string());
                let (events, waiting) = (outbox.n_events.to_string(), outbox.n_waiting.to_string());
                rows.push(vec![format!("outbox of {service}"), events, waiting, since, "-".to_owned()]);
            }
            Command::Consumers => {
                for cursor in cursors(db).await? {
                    let source = opened.iter().find(|(name, _)| *name == cursor.source).map(|(_, db)| db);
                    let behind = match source {
                        Some(source) => cursor.behind(source).await?.to_string(),
                        None => "-".to_owned(),
                    };
                    let waiting = cursor.n_waiting.to_string();
                    rows.push(vec![cursor.consumer, cursor.source, cursor.last_seq.to_string(), behind, waiting]);
                }
            }
            Command::Jobs { kind, state, limit } => {
                let filter = JobFilter { kind: kind.clone(), state: *state };
                let page = PageRequest::new(Some(*limit), None)?;
                rows.extend(all_jobs(db, &filter, &page).await?.data.into_iter().map(job_cells));
            }
            Command::DeadLetters { which } => {
                rows.extend(dead_letters(db, &which.which()?).await?.into_iter().map(cells));
            }
            Command::Redrive { which, dry_run } => {
                let which = which.which()?;
                rows.extend(dead_letters(db, &which).await?.into_iter().map(cells));
                if !dry_run {
                    let n = redrive(db, &which, &Clock::system()).await?;
                    output::complain(format!("{service}: {n} sent again"));
                }
            }
        }
    }
    if matches!(command, Command::Status) {
        match node::connect_broker(&config).await? {
            Some(broker) => match stream(&broker).await {
                Ok(found) => rows.extend(found),
                Err(error) => output::complain(error.message()),
            },
            None => output::complain("consumers read the outboxes themselves: bus.nats_url is not set"),
        }
    }
    output::table(&rows);
    writers.shutdown(std::time::Duration::from_secs(10)).await;
    Ok(ExitCode::SUCCESS)
}

/// A line per finding, and exit code 1 if there is one.
fn report(findings: &[Finding]) -> ExitCode {
    if findings.is_empty() {
        output::line("all events and jobs add up");
        return ExitCode::SUCCESS;
    }
    for Finding { check, place, found, remedy } in findings {
        output::line(format!("{check:18} {place:10} {found} → {remedy}"));
    }
    ExitCode::FAILURE
}

/// The stream and its consumers.
async fn stream(broker: &Broker) -> Result<Vec<Vec<String>>> {
    let stream = broker.status().await?;
    let dash = || "-".to_owned();
    let most = stream.consumers.iter().map(|consumer| consumer.n_pending).max().unwrap_or(stream.n_events);
    let room = stream.max_bytes.map_or_else(String::new, |max| format!(" of {max}"));
    let bytes = format!("{}{room}", stream.n_bytes);
    let mut rows = vec![vec!["stream".to_owned(), stream.n_events.to_string(), most.to_string(), dash(), bytes]];
    for consumer in stream.consumers {
        let (unfinished, pending) = (consumer.n_unfinished.to_string(), consumer.n_pending.to_string());
        rows.push(vec![format!("consumer {}", consumer.name), unfinished, pending, dash(), dash()]);
    }
    Ok(rows)
}

fn state(name: &str) -> Result<State, String> {
    let found = State::ALL.into_iter().find(|state| state.name() == name);
    found.ok_or_else(|| format!("it is one of {}", State::ALL.map(State::name).join(", ")))
}

fn heading(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn cells(letter: Buried) -> Vec<String> {
    let last = letter.last_at.to_string();
    let id = encode_id(LETTER, letter.id);
    vec![
        id,
        letter.consumer,
        letter.reason,
        letter.reference,
        letter.tenant,
        letter.count.to_string(),
        last,
        letter.error,
    ]
}

fn job_cells(job: Job) -> Vec<String> {
    let attempts = format!("{} of {}", job.n_attempts, job.max_attempts);
    let done = job.total.map_or_else(|| job.done.to_string(), |total| format!("{} of {total}", job.done));
    let (id, tenant, error) = (job.id.to_string(), job.tenant.to_string(), job.error.unwrap_or_default());
    vec![id, job.kind, job.state.name().to_owned(), attempts, done, tenant, error]
}
