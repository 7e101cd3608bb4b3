--[[ One page of the miners of a shard in slot order, with what service levels are measured from. The uptime of a miner
counts up over all its times in the registry, and up to now: what its next heartbeat would credit is in it.

KEYS[1]   shard prefix
ARGV[1]   clock      ms, or '' for Redis TIME
ARGV[2]   from_slot  first slot to look at
ARGV[3]   limit      0..500 miners; 0 only reads the clocks

RETURNS {'ok', now (ms), outage so far (ms), next slot (-1: no more),
         {{miner_id, registered_at (ms), uptime (ms), max_parallel, taken places, online (0|1),
          outage when it registered (ms)}...}}
]]
--- @include "base"
--- @include "record"
--- @include "outage"

local clock, from_slot, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local FIELDS = { 'registered_at_ms', 'uptime_ms', 'last_seen_ms', 'lease_until_ms', 'max_parallel', 'queue_len', 'reserved', 'state',
  'registered_outage_ms' }

local now = clock_ms(clock)
local slots, at = {}, from_slot
while limit > 0 and #slots <= limit do
  local slot = redis.call('BITPOS', P .. 'ix:all', 1, at, -1, 'BIT')
  if slot < 0 then break end
  slots[#slots + 1] = slot
  at = slot + 1
end
local next_slot = -1
if #slots > limit then next_slot = table.remove(slots) end
local page = {}
if #slots > 0 then
  for _, record in ipairs(redis.call('HMGET', P .. 'records', unpack(slots))) do
    if record then
      local id = record_id(record)
      local f = redis.call('HMGET', P .. 'miner:' .. id, unpack(FIELDS))
      local earlier = tonumber(redis.call('GET', P .. 'uptime:' .. id) or 0)
      local seen, lease_until = tonumber(f[3]), tonumber(f[4])
      local uncredited = math.max(0, math.min(now, lease_until) - seen)
      local taken = tonumber(f[6] or 0) + tonumber(f[7] or 0)
      page[#page + 1] = {
        id, f[1], text_of(earlier + tonumber(f[2]) + uncredited), f[5], text_of(taken), f[8] == 'online' and 1 or 0,
        f[9] or text_of(outage_so_far(now)),
      }
    end
  end
end
return { 'ok', text_of(now), text_of(outage_so_far(now)), next_slot, page }
