//! The tables of the tests, and a database with its writer running.

use std::time::Duration;

use manifold_core::Timestamp;
use manifold_store::{Db, Group, Location, Migrations, Row, Values, Writer, WriterConfig, on};
use sqlx::types::Json;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use uuid::Uuid;

pub const TENANT: Uuid = Uuid::from_u128(7);

pub fn migrations() -> Migrations {
    Migrations {
        sqlite: sqlx::migrate!("tests/migrations/sqlite"),
        postgres: sqlx::migrate!("tests/migrations/postgres"),
    }
}

/// A row of every type.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Thing {
    pub id: Uuid,
    pub tenant_id: Uuid,
    pub name: String,
    pub document: Json<Vec<String>>,
    pub used: i64,
    pub ratio: Option<f64>,
    pub active: bool,
    pub digest: Option<Vec<u8>>,
    #[sqlx(try_from = "manifold_store::Micros")]
    pub created_at: Timestamp,
}

/// A row that belongs to a thing; refused from 100 on.
pub struct Part {
    pub thing_id: Uuid,
    pub n: i64,
}

impl Thing {
    pub fn new(id: u128) -> Self {
        let id = Uuid::from_u128(id);
        Self {
            id,
            tenant_id: TENANT,
            name: id.to_string(),
            document: Json(vec!["a".to_owned()]),
            used: 0,
            ratio: None,
            active: true,
            digest: None,
            created_at: Timestamp::from_micros(1_763_629_200_000_001),
        }
    }
}

impl Row for Thing {
    const TABLE: &'static str = "thing";
    const COLUMNS: &'static [&'static str] =
        &["id", "tenant_id", "name", "document", "used", "ratio", "active", "digest", "created_at"];

    fn bind(&self, values: &mut Values<'_>) {
        values.uuid(self.id);
        values.uuid(self.tenant_id);
        values.text(&self.name);
        values.json(&self.document.0);
        values.int(self.used);
        values.opt_real(self.ratio);
        values.bool(self.active);
        values.opt_bytes(self.digest.as_deref());
        values.time(self.created_at);
    }
}

impl Row for Part {
    const TABLE: &'static str = "thing_part";
    const COLUMNS: &'static [&'static str] = &["thing_id", "n"];

    fn bind(&self, values: &mut Values<'_>) {
        values.uuid(self.thing_id);
        values.int(self.n);
    }
}

/// A thing and one part.
pub fn group(id: u128, n: i64) -> Group {
    Group::new().with(Thing::new(id)).with(Part { thing_id: Uuid::from_u128(id), n })
}

/// A database whose writer runs until it is stopped.
pub struct Running {
    pub db: Db,
    stop: Option<oneshot::Sender<()>>,
    writer: JoinSet<()>,
}

impl Running {
    pub async fn open(location: &Location) -> Self {
        let (db, writer) = open(location).await;
        Self::start(db, writer)
    }

    pub fn start(db: Db, writer: Writer) -> Self {
        let (stop, stopped) = oneshot::channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(writer.run(async move {
            let _ = stopped.await;
        }));
        Self { db, stop: Some(stop), writer: tasks }
    }

    /// Shuts the writer down and waits for it.
    pub async fn stop(&mut self) {
        self.stop.take();
        self.writer.join_next().await.unwrap().unwrap();
    }

    /// Waits until everything pushed is written.
    pub async fn settled(&self) {
        for _ in 0..3_000 {
            if self.db.rows().depth() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} pieces still wait", self.db.rows().depth());
    }
}

pub async fn open(location: &Location) -> (Db, Writer) {
    Db::open(location, "test-things", &[&migrations()], &WriterConfig::default()).await.unwrap()
}

/// Ids of the things and (thing, n) of the parts, sorted.
pub async fn contents(db: &Db) -> (Vec<u128>, Vec<(u128, i64)>) {
    let things: Vec<Uuid> =
        on!(db, |pool| sqlx::query_scalar("SELECT id FROM thing ORDER BY id").fetch_all(pool).await.unwrap());
    let parts: Vec<(Uuid, i64)> =
        on!(db, |pool| sqlx::query_as("SELECT thing_id, n FROM thing_part ORDER BY thing_id, n")
            .fetch_all(pool)
            .await
            .unwrap());
    (things.iter().map(Uuid::as_u128).collect(), parts.iter().map(|(id, n)| (id.as_u128(), *n)).collect())
}
