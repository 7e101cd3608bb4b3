--[[ Judges entries that belong to a miner: those whose miner is gone are stray, and so are online times that are none or never
expire. When asked, deletes the stray ones; of an online time without an end, it sets one.

KEYS[1]   shard prefix
ARGV[1]   clock   ms, or '' for Redis TIME; not used
ARGV[2]   mode    'look' | 'mend'
ARGV[3]   kind    by miner id: 'leases' | 'overrides' | 'changed' | 'commands' | 'miner'; by slot: 'records' | 'prices' | 'etas';
                  by name: 'tmp', 'uptime'
ARGV[4..] member  at most a few hundred

RETURNS {'ok', stray (0|1)...}
]]
--- @include "base"
--- @include "record"
--- @include "slot"
--- @include "uptime"

local mode, kind = ARGV[2], ARGV[3]
local FIRST_MEMBER = 4

local function field_of(id, name)
  return redis.call('HGET', P .. 'miner:' .. id, name) or ''
end

local function known(id)
  return field_of(id, 'slot') ~= ''
end

local function overridden(id)
  return field_of(id, 'price_override_until_ms') ~= ''
end

local function has_eta(slot)
  local id = holder_of(slot)
  return id and field_of(id, 'eta_ms') ~= ''
end

local function nobody()
  return false
end

local function is_time(key)
  return redis.call('TYPE', key).ok == 'string' and string.find(redis.call('GET', key), '^%d+$') ~= nil
end

local function expires(id)
  local key = P .. 'uptime:' .. id
  return is_time(key) and redis.call('PTTL', key) >= 0
end

-- How entries are kept: whether one is there, and how it goes.
local IN_ZSET = {
  there = function(member) return redis.call('ZSCORE', P .. kind, member) end,
  delete = function(member) redis.call('ZREM', P .. kind, member) end,
}
local IN_SET = {
  there = function(member) return redis.call('SISMEMBER', P .. kind, member) == 1 end,
  delete = function(member) redis.call('SREM', P .. kind, member) end,
}
local IN_HASH = {
  there = function(member) return redis.call('HEXISTS', P .. kind, member) == 1 end,
  delete = function(member) redis.call('HDEL', P .. kind, member) end,
}
local AS_KEY = {
  there = function(member) return redis.call('EXISTS', P .. kind .. ':' .. member) == 1 end,
  delete = function(member) redis.call('UNLINK', P .. kind .. ':' .. member) end,
}
local AS_TIME = {
  there = AS_KEY.there,
  delete = function(member)
    local key = P .. kind .. ':' .. member
    if is_time(key) then redis.call('PEXPIRE', key, KEEP_UPTIME_MS) else redis.call('UNLINK', key) end
  end,
}
local KINDS = {
  leases = { kept = IN_ZSET, belongs = known },
  overrides = { kept = IN_ZSET, belongs = overridden },
  prices = { kept = IN_ZSET, belongs = holder_of },
  etas = { kept = IN_ZSET, belongs = has_eta },
  changed = { kept = IN_SET, belongs = known },
  records = { kept = IN_HASH, belongs = holder_of },
  commands = { kept = AS_KEY, belongs = known },
  miner = { kept = AS_KEY, belongs = known },
  tmp = { kept = AS_KEY, belongs = nobody },
  uptime = { kept = AS_TIME, belongs = expires },
}

local kept, belongs, judged = KINDS[kind].kept, KINDS[kind].belongs, { 'ok' }
for i = FIRST_MEMBER, #ARGV do
  local member = ARGV[i]
  local stray = kept.there(member) and not belongs(member)
  judged[#judged + 1] = stray and 1 or 0
  if stray and mode == 'mend' then kept.delete(member) end
end
return judged
