/** What the directory of nodes does in Redis in one step, in Lua. */

/** How long a registration lives that is not renewed. */
export const LIFE_MS = 15_000

/**
 * Takes or keeps the id for one instance, in one step: two that start at once cannot both have it.
 * KEYS owner, own part, other part, nodes, seen, unpublished · ARGV id, instance, boot, owner's
 * record, what the part says ('' if it is not to be shown yet), field in `seen`, '1' for a runtime:
 * of the host's two names its own counts, since an extractor in a container of its own does not see
 * the machine's
 */
export const REGISTER = `local text = redis.call('GET', KEYS[1])
local lapsed = 1
if text then
  local owner = cjson.decode(text)
  if owner.instance ~= ARGV[2] or owner.boot ~= ARGV[3] then return {0, owner.host, redis.call('PTTL', KEYS[1])} end
  lapsed = 0
end
local unknown = 1 - redis.call('EXISTS', KEYS[2])
redis.call('SET', KEYS[1], (lapsed == 1 or ARGV[7] == '1') and ARGV[4] or text, 'PX', ${LIFE_MS})
if ARGV[5] ~= '' then
  if redis.call('SADD', KEYS[4], ARGV[1]) == 1 then
    unknown = 1
    redis.call('SADD', KEYS[6], ARGV[1])
  end
  local now = redis.call('TIME')
  redis.call('SET', KEYS[2], ARGV[5], 'PX', ${LIFE_MS})
  redis.call('HSET', KEYS[5], ARGV[6], string.format('%d%03d ', now[1], math.floor(now[2] / 1000)) .. ARGV[5])
end
return {1, lapsed, unknown, redis.call('EXISTS', KEYS[3])}`
/**
 * KEYS owner, own part, other part · ARGV instance, boot. The id is free at once when no part is
 * left.
 */
export const LEAVE = `local text = redis.call('GET', KEYS[1])
if not text then return 0 end
local owner = cjson.decode(text)
if owner.instance ~= ARGV[1] or owner.boot ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[2])
if redis.call('EXISTS', KEYS[3]) == 0 then redis.call('DEL', KEYS[1]) end
return 1`

/** A lua claim: the name is ours if it is free, or ours already. */
export const CLAIM = `local owner = redis.call('HGET', KEYS[1], ARGV[1])
if owner and owner ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return 1`
/**
 * KEYS placed, lock · ARGV node, the lock's token or ''. Who has the container then; nothing if the
 * lock is another's.
 */
export const CLAIM_CONTAINER = `if ARGV[2] ~= '' and redis.call('GET', KEYS[2]) ~= ARGV[2] then return false end
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])`
/**
 * KEYS names, lock, placed ('' keeps it) · ARGV name, container, the lock's token. 0 if the lock is
 * another's.
 */
export const GIVE_BACK = `if redis.call('GET', KEYS[2]) ~= ARGV[3] then return 0 end
if KEYS[3] ~= '' then redis.call('DEL', KEYS[3]) end
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end
return 1`
export const RELEASE = `if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end return 1`
/**
 * KEYS containers, uses, placed · ARGV container, how many seconds its place is remembered. The
 * record tells which image it uses; records of earlier releases may be in no `uses`. One of another
 * release may not tell: then all uses are searched.
 */
export const WITHDRAW = `local text = redis.call('HGET', KEYS[1], ARGV[1])
if text then
  local isJson, view = pcall(cjson.decode, text)
  if isJson and type(view) == 'table' and type(view.imageId) == 'string' then
    redis.call('ZREM', KEYS[2], view.imageId .. ' ' .. ARGV[1])
  else
    for _, use in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
      if string.sub(use, -#ARGV[1] - 1) == ' ' .. ARGV[1] then redis.call('ZREM', KEYS[2], use) end
    end
  end
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[3], ARGV[2]) return 1`
/**
 * KEYS containers, uses · ARGV image. 1 if a container uses it. A node of an earlier release notes
 * no uses: then its records are read.
 */
export const USES = `local range = {'[' .. ARGV[1] .. ' ', '(' .. ARGV[1] .. '!'}
if #redis.call('ZRANGEBYLEX', KEYS[2], range[1], range[2], 'LIMIT', 0, 1) > 0 then return 1 end
if redis.call('HLEN', KEYS[1]) == redis.call('ZCARD', KEYS[2]) then return 0 end
for _, text in ipairs(redis.call('HVALS', KEYS[1])) do
  if cjson.decode(text).imageId == ARGV[1] then return 1 end
end
return 0`
