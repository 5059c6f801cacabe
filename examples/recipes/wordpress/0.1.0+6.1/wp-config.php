<?php
// What WordPress needs to know of its environment; everything else is in the database.

function recipe_secret(string $name): string
{
    return trim(file_get_contents("/run/secrets/$name"));
}

define('DB_HOST', getenv('DB_HOST'));
define('DB_NAME', 'wordpress');
define('DB_USER', 'wordpress');
define('DB_PASSWORD', recipe_secret('db_password'));
define('DB_CHARSET', 'utf8mb4');

foreach (['AUTH', 'SECURE_AUTH', 'LOGGED_IN', 'NONCE'] as $use) {
    define("{$use}_KEY", hash_hmac('sha256', "$use key", recipe_secret('auth_key')));
    define("{$use}_SALT", hash_hmac('sha256', "$use salt", recipe_secret('auth_key')));
}

define('WP_HOME', 'https://' . getenv('DOMAIN'));
define('WP_SITEURL', WP_HOME);
// The program comes with the image and is updated with it.
define('DISALLOW_FILE_MODS', true);
