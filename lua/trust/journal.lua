-- Puts a feedback that Postgres could not take into the journal of its miner's shard.
-- KEYS: shard
-- ARGV: clock, data
--   data: the feedback as JSON; the clock is not used, stream ids have their own
-- RETURNS: {'ok'} | {'journal_full'}
--- @include "base"
local data = ARGV[2]

if redis.call('XLEN', P .. 'journal') >= C.journal_max then return { 'journal_full' } end
redis.call('XADD', P .. 'journal', '*', 'type', 'feedback', 'data', data)
return { 'ok' }
