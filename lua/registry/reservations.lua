--[[ Holds the reserved places of a miner against the reservations that hold them. When asked, mends what differs, unless
anything moved since the caller looked.

KEYS[1]   shard prefix
ARGV[1]   clock     ms, or '' for Redis TIME
ARGV[2]   mode      'look' | 'mend'
ARGV[3]   miner_id
ARGV[4]   seen      reserved places when the caller looked; not used by 'look'
ARGV[5..] reservation_id  all that the caller found to name the miner

RETURNS {'ok', places held, reserved places by the miner's hash} | {'moved'} | {'unknown_miner'}
]]
--- @include "base"
--- @include "record"
--- @include "bins"
--- @include "terms"
--- @include "index"
--- @include "miner"
--- @include "reservation"

local clock, mode, miner_id, seen = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local FIRST_ID = 5

local now = clock_ms(clock)
local miner = load_miner(miner_id)
if not miner then return { 'unknown_miner' } end

local registration = registration_of(miner_id)
local function holds_place(id)
  local r = redis.call('HMGET', reservation_key(id), 'state', 'miner_id', 'registration')
  return r[1] == 'held' and r[2] == miner_id and r[3] == registration
end

local held = 0
for i = FIRST_ID, #ARGV do
  local id = ARGV[i]
  if holds_place(id) then
    held = held + 1
    if mode == 'mend' and not redis.call('ZSCORE', P .. 'reservations', id) then
      redis.call('ZADD', P .. 'reservations', redis.call('HGET', reservation_key(id), 'until_ms'), id)
    end
  end
end
local reserved = number_or(miner.reserved, 0)
if mode == 'mend' then
  if tostring(reserved) ~= seen then return { 'moved' } end
  miner.reserved = held
  settle(miner, now)
end
return { 'ok', held, reserved }
