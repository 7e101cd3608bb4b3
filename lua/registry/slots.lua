--[[ Judges slots: each below the counter belongs to one miner or is free once. When asked, mends what is not so.

KEYS[1]   shard prefix
ARGV[1]   clock  ms, or '' for Redis TIME; not used
ARGV[2]   mode   'look' | 'mend'
ARGV[3..] slot   at most a few dozen

RETURNS {'ok', verdict...}: 'ok' | 'lost' (neither taken nor free) | 'shared' (taken, and free too) | 'doubled' (free twice)
        | 'uncounted' (taken or free, but not below the counter)
]]
--- @include "base"
--- @include "record"
--- @include "slot"

local mode = ARGV[2]
local FIRST_SLOT = 3
local FREE, NEXT = P .. 'slots:free', P .. 'slots:next'

local function judge(slot)
  local taken = holder_of(slot) ~= nil
  local free = #redis.call('LPOS', FREE, slot, 'COUNT', 2)
  local counted = tonumber(slot) < tonumber(redis.call('GET', NEXT) or 0)
  if not counted and (taken or free > 0) then return 'uncounted' end
  if taken and free > 0 then return 'shared' end
  if free > 1 then return 'doubled' end
  if counted and not taken and free == 0 then return 'lost' end
  return 'ok'
end

local function mend(slot, verdict)
  if verdict == 'uncounted' then redis.call('SET', NEXT, text_of(tonumber(slot) + 1)) end
  if verdict == 'shared' or verdict == 'doubled' then redis.call('LREM', FREE, 0, slot) end
  if verdict == 'lost' or verdict == 'doubled' then redis.call('RPUSH', FREE, slot) end
end

local verdicts = { 'ok' }
for i = FIRST_SLOT, #ARGV do
  local slot = ARGV[i]
  local verdict = judge(slot)
  verdicts[#verdicts + 1] = verdict
  if mode == 'mend' then mend(slot, verdict) end
end
return verdicts
