//! Who is connected through a proxy, so that both sides can be closed from outside.
//!
//! Never: bytes. Next: `gate.rs` and `proxy/faults.rs`, which close them.

use std::{
    collections::HashMap,
    net::{Shutdown, TcpStream},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The connections that are open, by a number that is never given twice.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: Mutex<HashMap<u64, Vec<TcpStream>>>,
}

impl Connections {
    /// Remembers a connection, so that it can be closed.
    pub(crate) fn opened(&self, connection: u64, client: TcpStream) {
        lock(&self.open).insert(connection, vec![client]);
    }

    /// Remembers its other side, or closes that if the connection was closed meanwhile.
    pub(crate) fn joined(&self, connection: u64, server: TcpStream) {
        if let Some(sides) = lock(&self.open).get_mut(&connection) {
            sides.push(server);
        } else {
            hang_up(&server);
        }
    }

    pub(crate) fn is_open(&self, connection: u64) -> bool {
        lock(&self.open).contains_key(&connection)
    }

    /// Closes both sides.
    pub(crate) fn close(&self, connection: u64) {
        let mut open = lock(&self.open);
        open.get(&connection).into_iter().flatten().for_each(hang_up);
        open.remove(&connection);
    }

    pub(crate) fn close_all(&self) {
        let mut open = lock(&self.open);
        open.values().flatten().for_each(hang_up);
        open.clear();
    }
}

/// Before the connection is forgotten: whoever finds it gone must find it closed.
fn hang_up(side: &TcpStream) {
    // It may be closed already.
    let _ = side.shutdown(Shutdown::Both);
}

/// No panic happens under the locks of this crate; if one does, what it leaves is still whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
