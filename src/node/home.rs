//! HOME: the folder of one node. Everything in it is its owner's alone, from the first byte.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{Bootstrap, BootstrapMistake, Incarnation, Settings, SettingsMistake};
use crate::trust::KeyPair;

const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
/// Bytes of a settings or bootstrap file at most.
const TEXT_BYTES_MAX: u64 = 1024 * 1024;

/// A home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// A file or the folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read the key.
    #[error("{} may be read by others (mode {mode:o})", path.display())]
    KeyIsOpen {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The key is not 32 bytes.
    #[error("{} is no key: {length} bytes, not 32", path.display())]
    NoKey {
        /// Which.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// The settings have a mistake.
    #[error("{}, {mistake}", path.display())]
    Settings {
        /// Which file.
        path: PathBuf,
        /// What and where.
        mistake: SettingsMistake,
    },
    /// Another node has this home.
    #[error("a node runs on {} already{}", path.display(), pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Held {
        /// The home.
        path: PathBuf,
        /// The other's process, if it says.
        pid: Option<u32>,
    },
}

/// Where the API of a running node listens.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ApiFile {
    /// The loopback address.
    pub api: String,
    /// The process.
    pub pid: u32,
}

/// The folder of one node, held by this process.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    _lock: File,
}

impl Home {
    /// Makes or opens a home, tightens it, and holds it for this process. What was tightened is
    /// given back, to be said.
    ///
    /// # Errors
    /// It cannot be used, or another node has it.
    pub fn open(path: &Path) -> Result<(Self, Vec<String>), HomeError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| HomeError::Io { path, source }
        };
        // Whatever this process makes is its owner's alone, from the first byte.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(!FOLDER_MODE & 0o777));
        fs::create_dir_all(path).map_err(at(path))?;
        let mut tightened = Vec::new();
        tighten(path, FOLDER_MODE, &mut tightened).map_err(at(path))?;
        for entry in fs::read_dir(path).map_err(at(path))? {
            let entry = entry.map_err(at(path))?.path();
            if entry.is_file() && entry.file_name().is_some_and(|name| name != "identity.key") {
                tighten(&entry, FILE_MODE, &mut tightened).map_err(at(&entry))?;
            }
        }
        let lock_path = path.join("lock");
        let lock = private(&lock_path, false).map_err(at(&lock_path))?;
        let held = rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        if held.is_err() {
            let pid = read_api_file(path).map(|file| file.pid);
            return Err(HomeError::Held { path: path.to_owned(), pid });
        }
        Ok((Self { path: path.to_owned(), _lock: lock }, tightened))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key in `identity.key`; none where there is none yet.
    ///
    /// # Errors
    /// Others may read it, or it is no key.
    pub fn identity(&self) -> Result<Option<KeyPair>, HomeError> {
        let path = self.path.join("identity.key");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(HomeError::Io { path, source }),
        };
        let mode = fs::metadata(&path).map(|about| about.mode() & 0o777).unwrap_or(FILE_MODE);
        if mode & 0o077 != 0 {
            return Err(HomeError::KeyIsOpen { path, mode });
        }
        let length = bytes.len();
        let seed: [u8; 32] = bytes.try_into().map_err(|_| HomeError::NoKey { path, length })?;
        Ok(Some(KeyPair::from_seed(&seed)))
    }

    /// A file of the home, if it is there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, HomeError> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(HomeError::Io { path, source }),
        }
    }

    /// The key in a file of the home, if it is there.
    ///
    /// # Errors
    /// It cannot be read, or is no key.
    pub fn key_in(&self, name: &str) -> Result<Option<KeyPair>, HomeError> {
        let Some(bytes) = self.read(name)? else { return Ok(None) };
        let (path, length) = (self.path.join(name), bytes.len());
        let seed: [u8; 32] = bytes.try_into().map_err(|_| HomeError::NoKey { path, length })?;
        Ok(Some(KeyPair::from_seed(&seed)))
    }

    /// Gives a file another name, in the place of what has it.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), HomeError> {
        let path = self.path.join(from);
        let renamed = fs::rename(&path, self.path.join(to));
        let synced = renamed.and_then(|()| File::open(&self.path)?.sync_all());
        synced.map_err(|source| HomeError::Io { path, source })
    }

    /// Removes a file.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), HomeError> {
        let path = self.path.join(name);
        fs::remove_file(&path).map_err(|source| HomeError::Io { path, source })
    }

    /// Writes a new file whole, or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), HomeError> {
        let path = self.path.join(name);
        write_whole(&path, bytes).map_err(|source| HomeError::Io { path, source })
    }

    /// The settings, and the keys that the file gives.
    ///
    /// # Errors
    /// They have a mistake.
    pub fn settings(&self) -> Result<(Settings, BTreeSet<String>), HomeError> {
        let path = self.path.join("freehold.toml");
        match read_text(&path)? {
            None => Ok((Settings::default(), BTreeSet::new())),
            Some(text) => {
                let settings = Settings::parse(&text)
                    .map_err(|mistake| HomeError::Settings { path, mistake })?;
                Ok((settings, Settings::keys_in(&text)))
            }
        }
    }

    /// The bootstrap file of this home, as text.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn bootstrap_text(&self) -> Result<String, HomeError> {
        Ok(read_text(&self.path.join("bootstrap.toml"))?.unwrap_or_default())
    }

    /// The first peers: of the first file found of the one named and `./bootstrap.toml`, and of
    /// this home's.
    ///
    /// # Errors
    /// A file has a mistake, or the one named is missing.
    pub fn bootstrap(&self, named: Option<&Path>) -> Result<Bootstrap, HomeError> {
        let own = self.path.join("bootstrap.toml");
        let first = match named {
            Some(path) => Some(path.to_owned()),
            None => Some(PathBuf::from("bootstrap.toml")).filter(|path| path.is_file()),
        };
        let mut merged = Bootstrap::default();
        let mut network = None;
        for (path, must) in
            first.into_iter().map(|path| (path, named.is_some())).chain([(own, false)])
        {
            let Some(text) = read_text(&path)? else {
                if must {
                    return Err(HomeError::Io { path, source: io::ErrorKind::NotFound.into() });
                }
                continue;
            };
            let parsed = Bootstrap::parse(&text)
                .map_err(|mistake: BootstrapMistake| HomeError::Settings { path, mistake })?;
            if network.is_none() && parsed.network != merged.network {
                network = Some(parsed.network.clone());
            }
            for peer in parsed.peers {
                merged.add(peer);
            }
        }
        merged.network = network.unwrap_or(merged.network);
        Ok(merged)
    }

    /// The newest turn that was answered, and the life it was of, as last noted; none where nothing
    /// was.
    pub fn mark(&self) -> Option<(Incarnation, u64)> {
        let bytes = fs::read(self.path.join("home.mark")).ok()?;
        let (incarnation, turn) = bytes.split_first_chunk::<16>()?;
        Some((Incarnation::from_bytes(*incarnation), u64::from_be_bytes(turn.try_into().ok()?)))
    }

    /// Notes a turn for good, as if it had been answered.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_mark(&self, incarnation: Incarnation, turn: u64) -> Result<(), HomeError> {
        self.write("home.mark", &mark(incarnation, turn))
    }

    /// Opens the mark for writing.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open_mark(&self) -> Result<Mark, HomeError> {
        Mark::open(&self.path)
    }

    /// Says where the API listens.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_api(&self, api: &ApiFile) -> Result<(), HomeError> {
        let bytes = serde_json::to_vec(api).unwrap_or_default();
        self.write("api.json", &bytes)
    }

    /// Takes back where the API listened.
    pub fn remove_api(&self) {
        fs::remove_file(self.path.join("api.json")).ok();
        fs::remove_file(self.path.join("control.sock")).ok();
    }
}

/// `home.mark`: the newest answered turn. Written, never synced: it only notices a file that went
/// back.
#[derive(Debug)]
pub struct Mark(File);

impl Mark {
    /// Opens the mark in a folder for writing.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(folder: &Path) -> Result<Self, HomeError> {
        let path = folder.join("home.mark");
        let file = private(&path, false).map_err(|source| HomeError::Io { path, source })?;
        Ok(Self(file))
    }

    /// Notes a turn.
    pub fn write(&self, incarnation: Incarnation, turn: u64) {
        use std::os::unix::fs::FileExt;
        let bytes = mark(incarnation, turn);
        // It may be lost: then it notices nothing.
        self.0.write_all_at(&bytes, 0).ok();
    }
}

fn mark(incarnation: Incarnation, turn: u64) -> Vec<u8> {
    let mut bytes = incarnation.as_bytes().to_vec();
    bytes.extend_from_slice(&turn.to_be_bytes());
    bytes
}

/// Where the API of the node on this home listens, if it says.
pub fn read_api_file(home: &Path) -> Option<ApiFile> {
    serde_json::from_slice(&fs::read(home.join("api.json")).ok()?).ok()
}

fn read_text(path: &Path) -> Result<Option<String>, HomeError> {
    let at = |source| HomeError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(at(source)),
    };
    let mut text = String::new();
    file.take(TEXT_BYTES_MAX).read_to_string(&mut text).map_err(at)?;
    Ok(Some(text))
}

fn private(path: &Path, fresh: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(fresh)
        .mode(FILE_MODE)
        .open(path)
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".part");
    let mut file = private(Path::new(&temporary), true)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

fn tighten(path: &Path, mode: u32, tightened: &mut Vec<String>) -> io::Result<()> {
    let held = fs::metadata(path)?.mode() & 0o777;
    if held & !mode != 0 {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        tightened.push(format!(
            "{} was open to others (mode {held:o}); it is {mode:o} now",
            path.display()
        ));
    }
    Ok(())
}
