export WP_CONFIG_VERSION=v1
export DB_BACKUP_SH_VERSION=v1

# Makes the site and its administrator: abra app cmd <app-domain> app core_install
core_install() {
    php <<'PHP'
<?php
$_SERVER['HTTP_HOST'] = getenv('DOMAIN');
define('WP_INSTALLING', true);
require '/usr/share/wordpress/wp-load.php';
require ABSPATH . 'wp-admin/includes/upgrade.php';
if (is_blog_installed()) {
    exit("the site exists already\n");
}
wp_install('WordPress', 'admin', 'admin@' . getenv('DOMAIN'), true, '', recipe_secret('admin_password'));
PHP
}
