--[[ Reads miners and all that the registry keeps of them, each as of one instant, for `registry verify`. Changes nothing.

KEYS[1]   shard prefix
ARGV[1]   clock  ms, or '' for Redis TIME
ARGV[2..] miner_id ('' for none), slot ('' for none), count, then as many index terms; repeated, at most a few dozen times

RETURNS {'ok', now (ms), {{fields and values of the hash}, holder (id in the record of the slot), SHA-1 of that record,
         price, eta, lease, override (entries of the sorted sets), bits (one digit for each term)}...}; '' where there is none
]]
--- @include "base"
--- @include "record"

local clock = ARGV[1]
local FIRST_GROUP = 2

local function or_empty(reply)
  return reply or ''
end

local function bits_of(slot, from, count)
  local digits = {}
  for i = from, from + count - 1 do digits[#digits + 1] = redis.call('GETBIT', P .. 'ix:' .. ARGV[i], slot) end
  return table.concat(digits)
end

local now = clock_ms(clock)
local found, at = {}, FIRST_GROUP
while at <= #ARGV do
  local miner_id, slot, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local record = redis.call('HGET', P .. 'records', slot)
  found[#found + 1] = {
    redis.call('HGETALL', P .. 'miner:' .. miner_id),
    record and record_id(record) or '', record and redis.sha1hex(record) or '',
    or_empty(redis.call('ZSCORE', P .. 'prices', slot)), or_empty(redis.call('ZSCORE', P .. 'etas', slot)),
    or_empty(redis.call('ZSCORE', P .. 'leases', miner_id)), or_empty(redis.call('ZSCORE', P .. 'overrides', miner_id)),
    slot == '' and '' or bits_of(slot, at + 3, count),
  }
  at = at + 3 + count
end
return { 'ok', text_of(now), found }
