// What the scripts beside this one share: the trip that each client makes. The model is asked with a tool, calls it, gets
// the result and answers. A script is called with one JSON object {url, way, model, question, choose}; "choose" forces
// the call, and then an answer. It prints one JSON object {calls: [{name, input}], text, cached}: what was called with which
// arguments, the answer behind it, the prompt tokens of the last request that came from the cache.

export const order = JSON.parse(process.argv[2])

export const schema = {
  type: 'object',
  properties: { city: { type: 'string', description: 'Name of the city' } },
  required: ['city'],
  additionalProperties: false,
}
export const description = 'The weather of a city'
export const lookUp = ({ city }) => JSON.stringify({ city, sky: 'RESULT-SUNNY', celsius: 25 })
export const maxTokens = 40

export function end(calls, text, cached) {
  console.log(JSON.stringify({ calls, text, cached }))
}

export async function run(ways) {
  if (!ways[order.way]) throw new Error(`no way ${order.way}`)
  await ways[order.way]()
}
