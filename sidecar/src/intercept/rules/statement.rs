//! The rules one by one.

use nlink::netlink::nftables::{
    CmpOp, CtState, Expr, Field, Match, MetaKey, Register, RuleSpec, Stmt, Verdict,
};

pub(super) const TCP: u8 = 6;

pub(super) fn returns(condition: Match) -> RuleSpec {
    RuleSpec::new().then(condition).then(Verdict::Return)
}

pub(super) fn redirect(condition: Match, port: u16) -> RuleSpec {
    RuleSpec::new()
        .then(condition)
        .then(Stmt::Counter)
        .then(Stmt::Redirect(Some(port)))
}

/// Drops TCP packets that connection tracking can make nothing of.
///
/// A node that loses track of a connection (a late packet, a full table) hands its packets on with addresses that it did
/// not translate back. The pod knows no such connection, and its reset would end the true one at the server.
pub(super) fn drop_invalid() -> RuleSpec {
    RuleSpec::new()
        .then(Match::eq(Field::L4Proto, TCP))
        .then(Match::eq(Field::CtState, CtState::INVALID))
        .then(Stmt::Counter)
        .then(Verdict::Drop)
}

/// `meta skuid`, which the library has as a register load only. The kernel compares it in the host's byte order.
pub(super) fn from_uid(uid: u32) -> RuleSpec {
    RuleSpec::new()
        .then(Expr::Meta {
            dreg: Register::R0,
            key: MetaKey::SkUid,
        })
        .then(Expr::Cmp {
            sreg: Register::R0,
            op: CmpOp::Eq,
            data: uid.to_ne_bytes().to_vec(),
        })
}
