"""The ledger: tasks that are planned, handed over, claimed and finished. Only this folder writes its two tables.

The life of a task (`jittask_ledger.status`). Each arrow is a conditional write, named in `transitions`, or in
`planned_rows` (plan, supersede), `limits` (queue, admit), `retries` (retry_batch, retry_lost), `digest_calls` (the tasks
of a call, together) and `opening` (wait_for_opening, retry_at_opening: a late task waits for its opening hours, PENDING
with `not_before`, from PENDING or from EXECUTING)::

                 plan: hook, sync, next occurrence         enter: createTimerTask, a schedule's run at its claim
                       |                                      |
     supersede, end    v                                      v                       queue: no place is free
    +----------------- PENDING <------------------------------+ ---- (queue = waiting) ----+
    |  hook, sync,     |  ^  ^                                  <--- (queue = admitted) ---+ admit: a place is free
    |  look at the     |  |  |  retry: worker dead, retries left (sync, the worker's hook)
    |  due moment,     |  |  |  give_back: claimed and not begun; put_back: another task of its call was ended
    |  forcedEnd,      |  |  +------------------------------------+
    |  Cancel          |  | retry_batch, retry_lost; put_back_killed: died with its call, another task of which was ended
    |                  |  +----------------------------+          |
    |                  | claim: the executing process   |          |
    |                  v                                |          |
    |              EXECUTING ---------------------------|----------+   renew (lease), begin, next_attempt
    |   end:       |   |   | finish: the owner only     |
    |   forcedEnd, |   |   +------------------------> ERROR (failed, timeout)    fail: worker dead, no retries (died)
    |              |   |                                 claim: Retry of the same flow run, to EXECUTING
    |   Cancel     |   | finish: the owner, in the commit of the function's changes
    v              |   +--> COMPLETED
  ENDED <----------+------- end_killed: ERROR (died), where its process was killed for a forced end
                            (restore: pending -> completed, error: Prefect remembers what an older copy does not)
  superseded, forced, missed, skipped

Then, once for each end, `take_return` gives a caller the right to call `afterReturn`. Finished tasks leave the ledger by
`retention.prune`, but for those that the identity of later tasks needs.

The hand-over to Prefect is a second machine (`dirty`, `flow_run_id`, `batch`; `handover_marks`)::

    DIRTY, pending  -- runs_made: a flow run of its own ----------------> CLEAN, pending: Prefect will run the task
                    -- batch_joined: number n, and the batch's run -----> CLEAN, pending, in batch n
    CLEAN, in batch -- batch_left: somebody had ended the run ----------> DIRTY, pending
    CLEAN, in batch -- batch_stopped: its worker stops -----------------> DIRTY, pending: goes on in another batch
    CLEAN, pending  -- run_lost: missing, dead, spent ------------------> DIRTY, pending: gets another flow run
    any, open       -- queue, wait_for_opening, retry_at_opening, retry > DIRTY, pending: gets another flow run
    any, executing  -- finish ------------------------------------------> CLEAN, final: the process tells Prefect
    any             -- supersede, end, fail from outside ---------------> DIRTY, final: a flow run is to be ended
    DIRTY, final    -- end_shown: Prefect shows the end ----------------> CLEAN, final

The ledger is always first: a task is claimed, ended or completed here before Prefect hears of it. So where a flow run
ended by its own doing and its task still waits, the ledger is an older copy: the task stays done (`restore`).
A flow run's idempotency key names task, attempt and previous run: to make a run twice makes no second run. A batch's
number rises once its run is spent; no row joins a batch that has begun; a batch looks for rows again before its end.

A crash leaves:

=====================================  ====================================  ==========================================
between                                left behind                           mended by
=====================================  ====================================  ==========================================
plan or supersede, and hand-over       dirty                                 the next hand-over
a flow run made, and its mark          dirty; the run under its key          the next hand-over finds the run by its key
claim, and the commit that ends it     executing; the lease runs out (25 s)  sync or hook: retry, else fail (died)
a row's commit, and the next row's     the next is executing, as above       as above
end in the ledger, and in Prefect      dirty, or a Running run               hand-over; sync (`right_state`)
an end, and `afterReturn`              returned = false                      the sync, a minute later
a verdict, and its write               nothing                               the next sync asks again
=====================================  ====================================  ==========================================

Where a flow run's state and a task's status differ, the table in `verdict` says how both are brought together.
"""
