//! What a message holds of the connection that carries it, given back by drop.

use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;

/// Who lends places on connections.
pub trait Lender: Send + Sync {
    /// Takes back one place on the connection `connection`.
    fn give_back(&self, connection: u64);
}

/// One stream's place on a connection; dropping it gives the place to the next call.
pub struct Loan {
    lender: Arc<dyn Lender>,
    connection: u64,
}

impl Loan {
    /// A place on the lender's connection `connection`, already taken there.
    #[must_use]
    pub fn new(lender: Arc<dyn Lender>, connection: u64) -> Self {
        Self { lender, connection }
    }

    /// The lender's name for the connection.
    #[must_use]
    pub fn connection(&self) -> u64 {
        self.connection
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.lender.give_back(self.connection);
    }
}

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

/// What a body holds until it ends or is dropped.
#[derive(Debug)]
pub enum Hold {
    /// Nothing: the connection is the application's.
    Nothing,
    /// The stream's place.
    Place(Loan),
    /// The stream's place, shared with an upload that goes on while the response comes in.
    Shared {
        /// The place; the upload has it too.
        loan: Arc<Loan>,
        /// Tells the upload that the response has ended. Dropped unsent: the response was given up.
        ended: Option<oneshot::Sender<()>>,
    },
}

impl Hold {
    /// The body came to its end: an upload may finish what it is sending.
    pub(super) fn ended(&mut self) {
        if let Self::Shared { ended, .. } = self
            && let Some(ended) = ended.take()
        {
            let _an_upload_that_is_done_needs_no_word = ended.send(());
        }
    }
}
