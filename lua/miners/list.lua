--[[ One page of the miners of a shard that carry all given terms, in slot order.

KEYS[1]   shard prefix
ARGV[1]   clock      ms, or '' for Redis TIME; not used
ARGV[2]   from_slot  first slot to look at
ARGV[3]   limit      0..500; with 0, the total is what counts
ARGV[4..] term       index terms; all must hold

RETURNS {'ok', total, next slot (-1: no more), {miner ids}}
]]
--- @include "base"
--- @include "record"

local from_slot, limit = tonumber(ARGV[2]), tonumber(ARGV[3])
local FIRST_TERM = 4

local source = P .. 'ix:all'
if #ARGV >= FIRST_TERM then
  redis.set_repl(redis.REPL_NONE)
  source = P .. 'tmp:list'
  local parts = { P .. 'ix:all' }
  for i = FIRST_TERM, #ARGV do parts[#parts + 1] = P .. 'ix:' .. ARGV[i] end
  redis.call('BITOP', 'AND', source, unpack(parts))
end
local total, slots, at = redis.call('BITCOUNT', source), {}, from_slot
while #slots <= limit do
  local slot = redis.call('BITPOS', source, 1, at, -1, 'BIT')
  if slot < 0 then break end
  slots[#slots + 1] = slot
  at = slot + 1
end
if source == P .. 'tmp:list' then
  redis.call('DEL', source)
  redis.set_repl(redis.REPL_ALL)
end
local next_slot = -1
if #slots > limit then next_slot = table.remove(slots) end
local ids = {}
if #slots > 0 then
  for i, record in ipairs(redis.call('HMGET', P .. 'records', unpack(slots))) do ids[i] = record and record_id(record) end
end
return { 'ok', total, next_slot, ids }
