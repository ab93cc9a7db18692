"""What a session says about itself: transactions, savepoints, settings, its own statements. Carried out by the broker.

Each is an `Own` of the policy's; the server takes part only where a transaction is open there.
"""

from __future__ import annotations

from workers.sql.broker import steps
from workers.sql.broker.errors import Trouble
from workers.sql.broker.exchange import Exchange
from workers.sql.broker.frames import (
    complete,
)
from workers.sql.broker.prepared import Ruling
from workers.sql.broker.settings import shown_value, wish_of
from workers.sql.policy.session import Answer, Forward, Own, local_settings_sql


class Steering(Exchange):
    """An exchange whose client steers it."""

    def _control(self, ruling: Ruling, own: Own, *, is_simple: bool) -> bool | None:
        """True: the server takes part; None: call again. Raises Trouble."""
        if self._is_failed() and own.verb not in ("commit", "rollback"):
            raise Trouble("25P02", "current transaction is aborted, commands ignored until end of transaction block")
        match own.verb:
            case "begin":
                self._say_begin(own)
                return False
            case "commit" | "rollback":
                return self._end(ruling, own)
            case "savepoint" | "release" | "rollback-to":
                if not self._transaction.is_begun:
                    raise Trouble("25P01", f"{own.tag} can only be used in transaction blocks")
                return self._send_own(ruling, own)
            case "set":
                return self._set(ruling, own)
            case "reset":
                return self._reset(own)
            case "show" if own.name in self.current_settings:
                value = shown_value(own.name, self.current_settings[own.name])
                row = Answer((own.name,), ((value,),), own.tag)
                self._say_answer(row, with_columns=is_simple)
                return False
            case "show":
                return self._run(ruling, Forward(own.sql, "select"), is_simple=is_simple, tag=complete(own.tag))
            case "close-all" if self._transaction.is_open:
                return self._send_own(ruling, own)
            case "close-all":
                self._say(complete(own.tag))
                return False
            case "deallocate":
                return self._deallocate(own)
            case "discard":
                if self._transaction.is_begun:
                    raise Trouble("25001", "DISCARD ALL cannot run inside a transaction block")
                self._statements.clear()
                self._change({})
                self._say(complete(own.tag))
                return False

    def _say_begin(self, own: Own) -> None:
        transaction = self._transaction
        if transaction.is_begun:
            self._notice("25001", "there is already a transaction in progress")
            self._say(complete(own.tag))
            return
        transaction.begin(own, self.settings)

        def undo() -> None:
            if transaction.pending is own:
                transaction.pending = None

        self._say(complete(own.tag), undo)

    def _end(self, ruling: Ruling, own: Own) -> bool | None:
        transaction = self._transaction
        keeps = own.verb == "commit"
        if transaction.is_open or self._is_unsynced:
            done = self._send_own(ruling, own)
            if done and not own.chain:
                self._settle(transaction.end(keeps=keeps))
            return done
        if own.chain and not transaction.is_begun:
            raise Trouble("25P01", f"{own.tag} AND CHAIN can only be used in transaction blocks")
        if not transaction.is_begun:
            self._notice("25P01", "there is no transaction in progress")
        tag = "ROLLBACK" if transaction.is_failed else own.tag
        chained = transaction.pending if own.chain else None
        self._settle(transaction.end(keeps=keeps))
        if chained is not None:
            transaction.begin(chained, self.settings)
        self._say(complete(tag))
        return False

    def _send_own(self, ruling: Ruling, own: Own) -> bool | None:
        """Have the server do it, in its place in the stream."""
        if not self.lease():
            return None
        self._begin()
        self._tell(own.sql, self._execution(ruling))
        return True

    def _set(self, ruling: Ruling, own: Own) -> bool | None:
        transaction = self._transaction
        if own.settings and own.settings[0][0].startswith("transaction_"):
            if not transaction.is_begun:
                self._notice("25P01", "SET TRANSACTION can only be used in transaction blocks")
                self._say(complete(own.tag))
                return False
            return self._send_own(ruling, own)
        if own.is_local and not transaction.is_begun:
            self._notice("25P01", "SET LOCAL can only be used in transaction blocks")
            self._say(complete(own.tag))
            return False
        changed = dict(own.settings)
        if transaction.is_open:
            for sql in local_settings_sql(changed):
                self._tell(sql, steps.EXECUTE_HIDDEN)
        if own.is_local:
            transaction.local.update(changed)
        else:
            transaction.forget_local(changed)
            self._change({**self.settings, **changed})
        self._say(complete(own.tag))
        if transaction.is_open:
            self._is_unsynced = True
            return True
        return False

    def _reset(self, own: Own) -> bool:
        names = [own.name] if own.name else list(self.current_settings)
        kept = {name: value for name, value in self.settings.items() if name not in names}
        gone = [name for name in names if name in self.current_settings]
        if self._transaction.is_open:
            for name, _ in wish_of(dict.fromkeys(gone, ""), {}):
                self._tell(f"SET LOCAL {name} TO DEFAULT", steps.EXECUTE_HIDDEN)
            self._is_unsynced = True
        self._transaction.forget_local(names)
        self._change(kept)
        self._say(complete(own.tag))
        return self._transaction.is_open

    def _deallocate(self, own: Own) -> bool:
        if not own.name:
            self._statements.clear()
        elif self._statements.pop(own.name.encode(), None) is None:
            raise Trouble("26000", f'prepared statement "{own.name}" does not exist')
        self._say(complete(own.tag))
        return False
