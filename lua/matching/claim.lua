--[[ Claims places for a job on the first `count` of the given miners that still have one.

KEYS[1]   shard prefix
ARGV[1]   clock     ms, or '' for Redis TIME
ARGV[2]   job_id
ARGV[3]   ttl_ms
ARGV[4]   count
ARGV[5..] reservation_id, miner_id   best first

RETURNS {'ok', {{reservation_id, until_ms}...}}
]]
--- @include "base"
--- @include "record"
--- @include "bins"
--- @include "terms"
--- @include "index"
--- @include "miner"
--- @include "reservation"
--- @include "remove"
--- @include "price"
--- @include "due"

local clock, job_id, ttl_ms, count = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local FIRST_PAIR, DUE_PER_CALL = 5, 16

local now = clock_ms(clock)
step_due(now, DUE_PER_CALL)
local until_ms, claimed = now + ttl_ms, {}
-- The same claim again (its answer was lost) is the first one: the places that it holds already count before any other.
local held = {}
for i = FIRST_PAIR, #ARGV, 2 do
  local id = ARGV[i]
  local r = redis.call('HMGET', reservation_key(id), 'state', 'until_ms')
  if r[1] == 'held' then
    held[id] = true
    claimed[#claimed + 1] = { id, r[2] }
  end
end
for i = FIRST_PAIR, #ARGV, 2 do
  if #claimed >= count then break end
  local id, miner_id = ARGV[i], ARGV[i + 1]
  if not held[id] and hold_place(id, miner_id, job_id, ttl_ms, now) then
    claimed[#claimed + 1] = { id, text_of(until_ms) }
  end
end
return { 'ok', claimed }
