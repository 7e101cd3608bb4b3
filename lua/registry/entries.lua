--[[ Judges entries that belong to a miner: those whose miner is gone are stray. When asked, deletes the stray ones.

KEYS[1]   shard prefix
ARGV[1]   clock   ms, or '' for Redis TIME; not used
ARGV[2]   mode    'look' | 'mend'
ARGV[3]   kind    by miner id: 'leases' | 'overrides' | 'changed' | 'commands' | 'miner'; by slot: 'records' | 'prices' | 'etas';
                  by name: 'tmp'
ARGV[4..] member  at most a few hundred

RETURNS {'ok', stray (0|1)...}
]]
--- @include "base"
--- @include "record"
--- @include "slot"

local mode, kind = ARGV[2], ARGV[3]
local FIRST_MEMBER = 4

local function field_of(id, name)
  return redis.call('HGET', P .. 'miner:' .. id, name) or ''
end

local function known(id)
  return field_of(id, 'slot') ~= ''
end

local function unlink(member)
  redis.call('UNLINK', P .. kind .. ':' .. member)
end

local function leave_zset(member)
  redis.call('ZREM', P .. kind, member)
end

local KINDS = {
  leases = { belongs = known, delete = leave_zset },
  overrides = { belongs = function(id) return field_of(id, 'price_override_until_ms') ~= '' end, delete = leave_zset },
  changed = { belongs = known, delete = function(member) redis.call('SREM', P .. 'changed', member) end },
  commands = { belongs = known, delete = unlink },
  miner = { belongs = known, delete = unlink },
  tmp = { belongs = function() return false end, delete = unlink },
  records = { belongs = holder_of, delete = function(member) redis.call('HDEL', P .. 'records', member) end },
  prices = { belongs = holder_of, delete = leave_zset },
  etas = {
    belongs = function(slot)
      local id = holder_of(slot)
      return id and field_of(id, 'eta_ms') ~= ''
    end,
    delete = leave_zset,
  },
}

local judged = { 'ok' }
for i = FIRST_MEMBER, #ARGV do
  local member = ARGV[i]
  local stray = not KINDS[kind].belongs(member)
  judged[#judged + 1] = stray and 1 or 0
  if stray and mode == 'mend' then KINDS[kind].delete(member) end
end
return judged
