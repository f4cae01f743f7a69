// Uses the explorer as a person does, in a headless Chromium, and tells what it saw as lines of JSON.
import { chromium } from 'playwright-core'

const [executablePath, profile, url, pictures] = process.argv.slice(2)
const told = (name, value) => console.log(JSON.stringify({ name, value }))
const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  viewport: { width: 1200, height: 800 },
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
})
const page = await context.newPage()
page.setDefaultTimeout(20000)
const asked = new Set()
page.on('request', request => asked.add(new URL(request.url()).host || request.url().slice(0, 5)))
page.on('console', message => message.type() === 'error' && told('console', message.text()))
page.on('pageerror', error => told('error', String(error)))
page.on('dialog', dialog => { told('dialog', dialog.message()); dialog.dismiss() })
const picture = async name => pictures && page.screenshot({ path: `${pictures}/${name}.png` })

await page.goto(url)
await page.waitForSelector('.memories li')
told('memories', await page.locator('.memories strong').allTextContents())
told('tree', await page.locator('nav a').allTextContents())
await picture('explorer')

// search as you type, from the keyboard
await page.keyboard.press('/')
await page.keyboard.type('pelican')
await page.waitForFunction(() => document.querySelector('main h2')?.textContent.includes('pelican'))
told('found', await page.locator('.memories strong').allTextContents())
await page.keyboard.press('Escape')
await page.keyboard.press('j')
await page.keyboard.press('Enter')
await page.waitForSelector('#value')
told('opened', await page.locator('#name').textContent())
told('value', await page.locator('#value').textContent())
told('removed', await page.locator('td.removed').allTextContents())
told('added', await page.locator('td.added').allTextContents())
told('circles', await page.locator('main svg circle').count())
await picture('explorer-memory')

// any two versions
await page.locator('.versions').nth(0).locator('button[data-version="1"]').click()
told('first', await page.locator('#value').textContent())

// what looks like HTML is text
await page.goto(`${url}/#/default/memory/evil/%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E`)
await page.waitForFunction(() => document.querySelector('#name')?.textContent.startsWith('evil'))
told('evil', await page.locator('#value').textContent())
told('images', await page.locator('img, main script').count())

// live
await page.goto(`${url}/#/default/path`)
await page.waitForSelector('.memories li')
await page.keyboard.press('l')
await page.waitForSelector('#live[data-open]')
await page.evaluate(() => fetch('v1/default/memories/live/k', { method: 'PUT', headers: { 'content-type': 'application/json' }, body: '{"value": "just now"}' }))
await page.waitForSelector('#change-list li')
told('live', await page.locator('#change-list li').first().textContent())
await page.waitForFunction(() => [...document.querySelectorAll('.memories strong')].some(one => one.textContent === 'live/k'))
await page.keyboard.press('l')

await page.goto(`${url}/#/default/outcomes`)
await page.waitForFunction(() => document.querySelector('main h2')?.textContent.startsWith('outcomes'))
told('outcomes', await page.locator('.memories strong').allTextContents())
await page.goto(`${url}/#/default/overview`)
await page.waitForSelector('svg[aria-label="memories by agent"]')
told('agents', await page.locator('svg[aria-label="memories by agent"] text').allTextContents())
await picture('explorer-overview')

// dark, and as wide as a phone
await page.emulateMedia({ colorScheme: 'dark' })
await page.setViewportSize({ width: 380, height: 760 })
await page.goto(`${url}/#/default/path`)
await page.waitForSelector('.memories li')
told('ground', await page.evaluate(() => getComputedStyle(document.body).backgroundColor))
told('overflow', await page.evaluate(() => document.documentElement.scrollWidth - innerWidth))
await picture('explorer-phone')
told('hosts', [...asked])
await context.close()
