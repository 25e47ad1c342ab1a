//! The SQLite file and the threads that use it: one writer, a few readers, a few searchers, one for
//! the vector index. An async caller hands over a closure and awaits its answer, so nobody above can block an async worker. Knows no table.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use rusqlite_migration::{M, MigrationDefinitionError, Migrations};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;

use super::error::{Result, StoreError};
use super::{filter, word_index};

/// How long a writer waits for another process before it gives up.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// Tasks that wait for a thread; a caller beyond that waits to hand its task over.
const QUEUE_CAPACITY: usize = 64;
const NUM_READERS: usize = 3;
/// A connection that nothing was asked of for so long gives the memory of its cache back.
const IDLE: Duration = Duration::from_secs(5);
const FILE_NAME: &str = "inglenook.db";

pub(super) const MIGRATIONS: [&str; 14] = [
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_batches_uploads_expiry.sql"),
    include_str!("migrations/0003_conversations.sql"),
    include_str!("migrations/0004_files_in_pieces.sql"),
    include_str!("migrations/0005_response_events.sql"),
    include_str!("migrations/0006_words_by_language.sql"),
    include_str!("migrations/0007_ingestion.sql"),
    include_str!("migrations/0008_chunking.sql"),
    include_str!("migrations/0009_answers.sql"),
    include_str!("migrations/0010_passwords.sql"),
    include_str!("migrations/0011_imports.sql"),
    include_str!("migrations/0012_scope_changes.sql"),
    include_str!("migrations/0013_ingested_sources.sql"),
    include_str!("migrations/0014_own_chunking.sql"),
];

pub(super) struct Database {
    path: PathBuf,
    writer: Threads,
    readers: Threads,
    /// Apart from the readers, so that long searches do not hold up a listing.
    searchers: Threads,
    /// For work on the vector index, which can take minutes.
    indexer: Threads,
}

impl Database {
    pub(super) fn open(dir: &Path) -> Result<Self> {
        create_private_dir(dir)?;
        let path = dir.join(FILE_NAME);
        Self::open_file(&path, dir).map_err(|error| error.naming(&path))
    }

    fn open_file(path: &Path, dir: &Path) -> Result<Self> {
        let writer = {
            // Two processes must not create the schema at the same time. The lock ends with the file handle.
            let lock_path = dir.join("open.lock");
            let lock = File::create(&lock_path)
                .and_then(|file| file.lock().map(|()| file))
                .map_err(|source| {
                    StoreError::io(format!("lock {}", lock_path.display()), source)
                })?;
            let mut writer = connect(path)?;
            migrate(&mut writer, path)?;
            drop(lock);
            writer
        };
        let num_searchers = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4));
        Ok(Self {
            path: path.to_owned(),
            writer: Threads::start("store-writer", vec![writer])?,
            readers: Threads::start("store-reader", connect_readers(path, NUM_READERS)?)?,
            searchers: Threads::start("store-search", connect_readers(path, num_searchers)?)?,
            indexer: Threads::start("store-index", connect_readers(path, 1)?)?,
        })
    }

    /// The data folder.
    pub(super) fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// Runs `work` in one transaction that is durable when this returns.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction) -> Result<T> + Send + 'static,
    {
        self.write_with("FULL", work).await
    }

    /// As `write`, but without waiting for the disk: what was written survives the end of the process, and the power only
    /// once a later `write` has returned. Nothing becomes inconsistent: what a power failure takes is the latest of all.
    pub(super) async fn write_lazily<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction) -> Result<T> + Send + 'static,
    {
        self.write_with("NORMAL", work).await
    }

    async fn write_with<T, F>(&self, synchronous: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction) -> Result<T> + Send + 'static,
    {
        let answer = self.writer.run(move |connection| {
            connection.pragma_update(None, "synchronous", synchronous)?;
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        });
        answer.await.map_err(|error| error.naming(&self.path))
    }

    /// Runs `work` on one snapshot.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction) -> Result<T> + Send + 'static,
    {
        let answer = self
            .readers
            .run(move |connection| work(&connection.transaction()?));
        answer.await.map_err(|error| error.naming(&self.path))
    }

    /// As `read`, on the threads for searches.
    pub(super) async fn search<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction) -> Result<T> + Send + 'static,
    {
        let answer = self
            .searchers
            .run(move |connection| work(&connection.transaction()?));
        answer.await.map_err(|error| error.naming(&self.path))
    }

    /// As `read`, on the one thread for the vector index.
    pub(super) async fn maintain<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction) -> Result<T> + Send + 'static,
    {
        let answer = self
            .indexer
            .run(move |connection| work(&connection.transaction()?));
        answer.await.map_err(|error| error.naming(&self.path))
    }

    /// As `maintain`, without waiting for it.
    pub(super) fn maintain_in_background<F>(&self, work: F)
    where
        F: FnOnce(&Transaction) -> Result<()> + Send + 'static,
    {
        self.indexer
            .try_run(move |connection| work(&connection.transaction()?));
    }

    /// Moves the write-ahead log into the database file, as far as readers allow.
    pub(super) async fn checkpoint(&self) -> Result<()> {
        let answer = self.writer.run(|connection| {
            Ok(connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
        });
        answer.await.map_err(|error| error.naming(&self.path))
    }
}

type Task = Box<dyn FnOnce(&mut Connection) + Send>;

/// Threads with a connection each behind one bounded queue. They end when the last handle is dropped and the queue
/// is empty.
struct Threads {
    queue: mpsc::Sender<Task>,
}

impl Threads {
    fn start(name: &str, connections: Vec<Connection>) -> Result<Self> {
        let (queue, tasks) = mpsc::channel::<Task>(QUEUE_CAPACITY);
        let tasks = Arc::new(Mutex::new(tasks));
        let cannot_start = |source| StoreError::io(format!("start the thread {name}"), source);
        for connection in connections {
            let tasks = Arc::clone(&tasks);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .map_err(cannot_start)?;
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || serve(&runtime, &tasks, connection))
                .map_err(cannot_start)?;
        }
        Ok(Self { queue })
    }

    async fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let task: Task = Box::new(move |connection| {
            // The caller may have left: nobody needs the answer then.
            let _ = reply.send(run_caught(work, connection));
        });
        self.queue
            .send(task)
            .await
            .map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }

    fn try_run<F>(&self, work: F)
    where
        F: FnOnce(&mut Connection) -> Result<()> + Send + 'static,
    {
        let task: Task = Box::new(move |connection| {
            if let Err(error) = run_caught(work, connection) {
                tracing::warn!(%error, "background work in the store failed");
            }
        });
        // A full queue means that the same work is already waiting many times over.
        let _ = self.queue.try_send(task);
    }
}

/// What each of the threads does: the next task, until there will be none. After a while without any it gives the memory of
/// its cache back, once.
fn serve(runtime: &Runtime, tasks: &Mutex<mpsc::Receiver<Task>>, mut connection: Connection) {
    let next = || async { tasks.lock().await.recv().await };
    loop {
        let task = runtime.block_on(async { timeout(IDLE, next()).await });
        let task = task.unwrap_or_else(|_| {
            // It only fails where the database is broken, which the next task will say.
            let _ = connection.execute_batch("PRAGMA shrink_memory;");
            runtime.block_on(next())
        });
        match task {
            Some(task) => task(&mut connection),
            None => return,
        }
    }
}

/// A panic must not end the thread; an open transaction was rolled back while unwinding.
fn run_caught<T>(
    work: impl FnOnce(&mut Connection) -> Result<T>,
    connection: &mut Connection,
) -> Result<T> {
    catch_unwind(AssertUnwindSafe(|| work(connection))).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(StoreError::Panicked(message.unwrap_or_default()))
    })
}

pub(super) fn connect(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    word_index::register(&connection)?;
    filter::register(&connection)?;
    // FULL: what was acknowledged survives a power failure, not only the end of the process.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -16384; PRAGMA journal_size_limit = 67108864;",
    )?;
    Ok(connection)
}

fn connect_readers(path: &Path, count: usize) -> Result<Vec<Connection>> {
    let reader = |_| {
        let connection = connect(path)?;
        connection.execute_batch("PRAGMA query_only = ON;")?;
        Ok(connection)
    };
    (0..count).map(reader).collect()
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<()> {
    use rusqlite_migration::Error;
    match Migrations::from_iter(MIGRATIONS.map(M::up)).to_latest(connection) {
        Ok(()) => Ok(()),
        Err(Error::MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead)) => {
            Err(StoreError::NewerSchema {
                path: path.to_owned(),
                found: connection.query_row("PRAGMA user_version", [], |row| row.get(0))?,
                supported: MIGRATIONS.len() as i64,
            })
        }
        Err(Error::RusqliteError { err, .. }) => Err(err.into()),
        Err(other) => Err(StoreError::Corrupt {
            path: path.to_owned(),
            detail: other.to_string(),
        }),
    }
}

/// Makes the folder, if need be, for its owner alone.
pub fn create_private_dir(dir: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(dir)
        .map_err(|source| StoreError::io(format!("create the folder {}", dir.display()), source))
}
