-- Who is calling: a session token or, where allowed, an API key; both only as digests.
local function authenticated(miner, kind, digest)
  if not miner then return false end
  if kind == 'session' then return miner.session ~= '' and miner.session == digest end
  return kind == 'key' and miner.key_digest ~= '' and miner.key_digest == digest
end

local MAX_COMMANDS_SHOWN = 16

-- Commands waiting for the miner, oldest first: a list of {id, name, args (JSON)}. Acknowledged ones are dropped first.
local function waiting_commands(id, acknowledged)
  local key = P .. 'commands:' .. id
  if redis.call('EXISTS', key) == 0 then return {} end
  if #acknowledged > 0 then redis.call('XDEL', key, unpack(acknowledged)) end
  if redis.call('XLEN', key) == 0 then
    redis.call('DEL', key)
    return {}
  end
  local out = {}
  for i, entry in ipairs(redis.call('XRANGE', key, '-', '+', 'COUNT', MAX_COMMANDS_SHOWN)) do
    local fields = entry[2]
    out[i] = { entry[1], fields[2], fields[4] }
  end
  return out
end
